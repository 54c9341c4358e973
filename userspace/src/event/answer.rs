//! What the venue says about the connection itself: answers to requests, and the announcement of its end.
//!
//! In come the fields of the message, out goes an [`Answer`] or a [`ServerShutdown`]. These are rare, so their keys are
//! looked for one by one.

use serde::Serialize;
use simd_json::{Node, StaticNode};

use super::Body;
use super::raw::{self, Misfit, Problem};
use super::tape::{Fields, Key, Lent, Place, Tape};

/// The answer to a request such as SUBSCRIBE.
///
/// Source: "Live Subscribing/Unsubscribing to streams" of the spot and of the USD-M documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Answer<'a> {
    /// `id`: that of the request; `None` where it is missing or null, because the request had none or could not be
    /// read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId<'a>>,
    /// What became of the request.
    #[serde(flatten)]
    pub outcome: Outcome<'a>,
    /// The payload, byte for byte as it arrived: for the `result` of a query, such as `LIST_SUBSCRIPTIONS`.
    #[serde(serialize_with = "raw::as_text")]
    pub payload: &'a [u8],
}

/// The name of a request: whoever sends it chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum RequestId<'a> {
    /// A number.
    Number(i64),
    /// A string.
    Text(&'a str),
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome<'a> {
    /// It was carried out: there is a `result`.
    Done {
        /// Whether the result is null, as it is for everything that is not a query.
        result_is_null: bool,
    },
    /// It was refused: there is an `error` with `code` and `msg`, or these two stand alone.
    Refused {
        /// `code`.
        code: i64,
        /// `msg`: the reason, in English.
        message: &'a str,
    },
}

/// The venue is about to shut down the server of this connection (`serverShutdown`): open another one soon.
///
/// Source: "Server Shutdown" of the spot documentation. In combined streams its stream is named `!serverShutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ServerShutdown {
    /// `E`: when the venue sent the event, in milliseconds since the Unix epoch.
    pub event_time_ms: u64,
}

/// Whether the object at `at` is an answer. JSON-RPC (`jsonrpc`), which other venues speak, is not Binance's: its
/// answers have the same `id`, `result` and `error`.
pub(super) fn looks_like_one(tape: Tape<'_, '_>, at: usize) -> bool {
    let has = |key| tape.find(at, key).is_some();
    !has("jsonrpc") && (refusal(tape, at).is_some() || (has("id") && has("result")))
}

pub(super) fn read<'a>(tape: Tape<'_, '_>, at: usize) -> Result<impl FnOnce(Lent<'a>) -> Body<'a> + use<'a>, Misfit> {
    let id = match tape.find(at, "id").map(|at| tape.node(at)) {
        None | Some(Node::Static(StaticNode::Null)) => None,
        Some(Node::String(text)) => Some(Id::Text(tape.place(text))),
        Some(node) => Some(Id::Number(signed(node).ok_or(Misfit { field: "id", problem: Problem::WrongType })?)),
    };
    let refusal = refusal(tape, at);
    let result_is_null =
        tape.find(at, "result").is_some_and(|at| matches!(tape.node(at), Node::Static(StaticNode::Null)));
    Ok(move |lent: Lent<'a>| {
        Body::Answer(Answer {
            id: id.map(|id| match id {
                Id::Number(number) => RequestId::Number(number),
                Id::Text(place) => RequestId::Text(lent.str(place)),
            }),
            outcome: match refusal {
                Some((code, message)) => Outcome::Refused { code, message: lent.str(message) },
                None => Outcome::Done { result_is_null },
            },
            payload: lent.payload,
        })
    })
}

pub(super) fn read_shutdown<'a>(
    fields: &Fields<'_, '_>,
) -> Result<impl FnOnce(Lent<'a>) -> Body<'a> + use<'a>, Misfit> {
    let event_time_ms = fields.integer(Key::letter("E"))?;
    Ok(move |_| Body::ServerShutdown(ServerShutdown { event_time_ms }))
}

#[derive(Clone, Copy)]
enum Id {
    Number(i64),
    Text(Place),
}

/// The code and the message of a refusal: inside `error`, or in the answer itself. A code is a number: in answers of
/// other venues that have the same keys it is a string.
fn refusal(tape: Tape<'_, '_>, at: usize) -> Option<(i64, Place)> {
    let at = tape.find(at, "error").filter(|error| tape.is_object(*error)).unwrap_or(at);
    let code = signed(tape.node(tape.find(at, "code")?))?;
    let Node::String(message) = tape.node(tape.find(at, "msg")?) else { return None };
    Some((code, tape.place(message)))
}

fn signed(node: Node<'_>) -> Option<i64> {
    match node {
        Node::Static(StaticNode::I64(value)) => Some(value),
        Node::Static(StaticNode::U64(value)) => i64::try_from(value).ok(),
        _ => None,
    }
}
