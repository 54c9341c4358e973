//! The messages: the trade that every stage is measured with, and one of each kind for the event stage.
//!
//! They have the forms and the typical lengths of captured ones.

use std::ops::Range;

/// The levels of one side of a depth.
const LEVELS: usize = 15;

/// A spot trade. Its length is the same for every id below ten billion.
pub fn trade(id: u64) -> String {
    format!(
        r#"{{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":{},"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}"#,
        3_735_683_259 + id % 1_000_000_000
    )
}

/// How trades are put into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// WebSocket frames in a record.
    pub frames: u64,
    /// Records in a batch. With at most two segments each, they stay below the 64 frames that a lane takes in a turn.
    pub records: u64,
}

impl Shape {
    /// One trade in each record, which fits a segment.
    pub const ONE: Self = Self { frames: 1, records: 32 };
    /// One trade in one record, and no other in the batch.
    pub const ALONE: Self = Self { frames: 1, records: 1 };
    /// Sixteen trades in each record, which takes two segments.
    pub const SIXTEEN: Self = Self { frames: 16, records: 16 };

    /// Both, with the words for them.
    pub const ALL: [(&'static str, Self); 2] = [("1 in a record", Self::ONE), ("16 in a record", Self::SIXTEEN)];

    /// Messages in a batch.
    pub const fn messages(self) -> u64 {
        self.frames * self.records
    }

    /// The plaintext of one record, whose first trade has this id, and where in it the payloads lie.
    pub fn plaintext(self, first: u64) -> (Vec<u8>, Vec<Range<usize>>) {
        let mut bytes = Vec::new();
        let payloads = (first..first + self.frames).map(|id| put_text(&mut bytes, trade(id).as_bytes())).collect();
        (bytes, payloads)
    }
}

/// Appends a server's text frame; where its payload lies.
pub(crate) fn put_text(bytes: &mut Vec<u8>, payload: &[u8]) -> Range<usize> {
    bytes.push(0x81);
    match payload.len() {
        len @ 0..=125 => bytes.push(len as u8),
        len => {
            bytes.push(126);
            bytes.extend(u16::try_from(len).expect("a short message").to_be_bytes());
        }
    }
    let start = bytes.len();
    bytes.extend(payload);
    start..bytes.len()
}

/// One message of each kind, in the envelope of a combined stream unless its name says otherwise.
pub(crate) fn kinds() -> Vec<(&'static str, String)> {
    let enveloped = |stream: &str, data: &str| format!(r#"{{"stream":"btcusdt@{stream}","data":{data}}}"#);
    let levels = |price: &str, quantity: &str| vec![format!(r#"["{price}","{quantity}"]"#); LEVELS].join(",");
    let (spot, usdm) = (levels("61837.63000000", "1.54698000"), levels("61800.30", "12.510"));
    let trade = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;
    vec![
        ("spot trade", enveloped("trade", trade)),
        ("spot trade, no envelope", trade.to_owned()),
        ("spot trade, no envelope, stamped", trade.replace(r#""M":true}"#, r#""M":true,"n":8123456789012      }"#)),
        (
            "usdm trade",
            enveloped(
                "trade",
                r#"{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,"p":"61800.30","q":"0.006","X":"MARKET","m":false}"#,
            ),
        ),
        (
            "spot aggTrade",
            enveloped(
                "aggTrade",
                r#"{"e":"aggTrade","E":1723161255343,"s":"BTCUSDT","a":15683430,"p":"61837.63000000","q":"0.02000000","f":3735683259,"l":3735683260,"T":1723161255342,"m":true,"M":true}"#,
            ),
        ),
        (
            "usdm aggTrade",
            enveloped(
                "aggTrade",
                r#"{"e":"aggTrade","E":1723161256322,"a":15683430,"s":"BTCUSDT","p":"61800.30","q":"0.006","f":5266583935,"l":5266583936,"T":1723161256322,"m":true}"#,
            ),
        ),
        (
            "spot bookTicker",
            enveloped(
                "bookTicker",
                r#"{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}"#,
            ),
        ),
        (
            "usdm bookTicker",
            enveloped(
                "bookTicker",
                r#"{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256313}"#,
            ),
        ),
        (
            "spot depth, 2 x 15 levels",
            enveloped(
                "depth@100ms",
                &format!(
                    r#"{{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,"b":[{spot}],"a":[{spot}]}}"#
                ),
            ),
        ),
        (
            "usdm depth, 2 x 15 levels",
            enveloped(
                "depth@0ms",
                &format!(
                    r#"{{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT","U":5123107832006,"u":5123107837557,"pu":5123107831937,"b":[{usdm}],"a":[{usdm}]}}"#
                ),
            ),
        ),
    ]
}
