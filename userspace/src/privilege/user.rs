//! Another user to be: found by name before anything is given up, and changed to in one go.

use nix::unistd::{self, Gid, Uid, getgrouplist};
use rustix::thread::{set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{Error, failed};

/// A user with its groups.
#[derive(Debug)]
pub(super) struct User {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl User {
    /// By name, or by number.
    pub(super) fn find(name: &str) -> Result<Self, Error> {
        let wrong = |reason: String| Error::User { name: name.to_owned(), reason };
        let found = match name.parse() {
            Ok(number) => unistd::User::from_uid(Uid::from_raw(number)),
            Err(_) => unistd::User::from_name(name),
        };
        let user =
            found.map_err(|error| wrong(error.to_string()))?.ok_or_else(|| wrong("there is none such".to_owned()))?;
        if user.uid.is_root() {
            return Err(wrong("changing to root gives nothing up".to_owned()));
        }
        let c_name = std::ffi::CString::new(user.name).map_err(|error| wrong(error.to_string()))?;
        let groups = getgrouplist(&c_name, user.gid).map_err(|error| wrong(error.to_string()))?;
        Ok(Self { name: name.to_owned(), uid: user.uid, gid: user.gid, groups })
    }

    /// Becomes this user; capabilities are kept, to be given up next. For a process with one thread: the kernel's user ids are
    /// a thread's.
    pub(super) fn change_to(&self) -> Result<(), Error> {
        let refused = |errno: rustix::io::Errno| Error::User {
            name: self.name.clone(),
            reason: format!(
                "cannot be changed to: {}: needs CAP_SETUID and CAP_SETGID (root)",
                std::io::Error::from(errno)
            ),
        };
        let gid = |gid: &Gid| rustix::process::Gid::from_raw(gid.as_raw());
        let groups: Vec<_> = self.groups.iter().map(gid).collect();
        let (uid, gid) = (rustix::process::Uid::from_raw(self.uid.as_raw()), gid(&self.gid));
        set_keep_capabilities(true).map_err(failed("keeping capabilities"))?;
        set_thread_groups(&groups).map_err(refused)?;
        set_thread_res_gid(gid, gid, gid).map_err(refused)?;
        set_thread_res_uid(uid, uid, uid).map_err(refused)?;
        set_keep_capabilities(false).map_err(failed("keeping capabilities no longer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let nobody = User::find("nobody").unwrap();
        assert_eq!(User::find(&nobody.uid.to_string()).unwrap().gid, nobody.gid);
        assert!(nobody.groups.contains(&nobody.gid));
    }

    #[test]
    fn nobody_there_and_root_are_refused() {
        for (name, word) in [("no-such-user-here", "none such"), ("root", "nothing"), ("0", "nothing")] {
            let error = User::find(name).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(word), "{error}");
        }
    }
}
