//! AWS-LC's `EVP_CIPHER`, which can open a record in parts; neither `EVP_AEAD` nor aws-lc-rs can.
//!
//! `unsafe` is allowed in this file alone of all benchmarks, because it is a C interface. It belongs to an experiment and is no
//! part of the library.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};

use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_sys::{
    EVP_CIPHER_CTX, EVP_CIPHER_CTX_ctrl, EVP_CIPHER_CTX_free, EVP_CIPHER_CTX_new, EVP_CTRL_AEAD_SET_TAG,
    EVP_DecryptFinal_ex, EVP_DecryptInit_ex, EVP_DecryptUpdate,
};

use super::{HEADER, KEY, Suite, TAG};

/// A decrypting `EVP_CIPHER_CTX` with its key, used for one record after the other.
pub(super) struct Evp {
    context: NonNull<EVP_CIPHER_CTX>,
}

impl Evp {
    pub(super) fn new(suite: Suite) -> Self {
        // SAFETY: it takes nothing, and gives a context that is ours until it is freed, or null.
        let context = NonNull::new(unsafe { EVP_CIPHER_CTX_new() }).expect("memory for a context");
        let evp = Self { context };
        let key = &KEY[..suite.joined.key_len()];
        // SAFETY: the context is ours; the cipher is one of AWS-LC's own, which are static; `key` has as many bytes as the
        // cipher's key, because it is the same cipher (`verify` would not pass otherwise); no engine and no IV are null, as
        // the interface allows.
        let set = unsafe {
            EVP_DecryptInit_ex(evp.context.as_ptr(), (suite.cut_through)(), ptr::null_mut(), key.as_ptr(), ptr::null())
        };
        assert_eq!(set, 1, "{}: a key for EVP", suite.name);
        evp
    }

    /// Begins a record: the context and its key stay, only the nonce is new.
    #[inline]
    pub(super) fn begin(&mut self, nonce: [u8; NONCE_LEN], header: [u8; HEADER]) -> bool {
        let mut len = 0;
        // SAFETY: the context is ours and has its cipher and key; a null cipher and key keep them. 12 bytes is the IV's
        // length by default with all three ciphers. Without an output the input is additional data, and is only read.
        unsafe {
            EVP_DecryptInit_ex(self.context.as_ptr(), ptr::null(), ptr::null_mut(), ptr::null(), nonce.as_ptr()) == 1
                && EVP_DecryptUpdate(
                    self.context.as_ptr(),
                    ptr::null_mut(),
                    &raw mut len,
                    header.as_ptr(),
                    HEADER as i32,
                ) == 1
        }
    }

    /// Decrypts the next bytes from where they lie to where they shall be.
    #[inline]
    pub(super) fn update(&mut self, from: &[u8], to: &mut [u8]) -> bool {
        assert_eq!(from.len(), to.len());
        // SAFETY: `from` may be read and `to` written for their common length, and they do not overlap.
        unsafe { self.update_raw(from.as_ptr(), to.as_mut_ptr(), from.len()) }
    }

    #[inline]
    pub(super) fn update_in_place(&mut self, bytes: &mut [u8]) -> bool {
        let to = bytes.as_mut_ptr();
        // SAFETY: `bytes` may be read and written; input and output are the same place, which EVP allows.
        unsafe { self.update_raw(to.cast_const(), to, bytes.len()) }
    }

    /// # Safety
    ///
    /// `len` bytes can be read at `from` and written at `to`; these are either the same place or do not overlap.
    #[inline]
    unsafe fn update_raw(&mut self, from: *const u8, to: *mut u8, len: usize) -> bool {
        let Ok(len) = i32::try_from(len) else { return false };
        let mut written = 0;
        // SAFETY: the context is ours and has its cipher. All three are stream ciphers in EVP, which hold nothing back, so
        // exactly `len` bytes are written; for the pointers the caller stands.
        unsafe { EVP_DecryptUpdate(self.context.as_ptr(), to, &raw mut written, from, len) == 1 && written == len }
    }

    /// Whether the record authenticates.
    #[inline]
    pub(super) fn finish(&mut self, mut tag: [u8; TAG]) -> bool {
        let mut written = 0;
        // The ciphers write nothing here, but the interface asks for a place.
        let mut nothing = [0; TAG];
        // SAFETY: the context is ours and has its cipher; the tag is copied from 16 bytes that can be read; these ciphers
        // have no block to flush, and there is room for one.
        unsafe {
            EVP_CIPHER_CTX_ctrl(self.context.as_ptr(), EVP_CTRL_AEAD_SET_TAG, TAG as i32, tag.as_mut_ptr().cast()) == 1
                && EVP_DecryptFinal_ex(self.context.as_ptr(), nothing.as_mut_ptr(), &raw mut written) == 1
        }
    }
}

impl Drop for Evp {
    fn drop(&mut self) {
        // SAFETY: it came from `EVP_CIPHER_CTX_new` and is freed once. The key in it is cleansed.
        unsafe { EVP_CIPHER_CTX_free(self.context.as_ptr()) };
    }
}
