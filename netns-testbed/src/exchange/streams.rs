//! Which streams a client gets, and what it is told when it asks for others.
//!
//! What comes in are the path of the upgrade request and the client's text messages; what goes out is a [`Streams`] that
//! answers, for a symbol and a kind of message, under which name it is wanted, and the answers a Binance market data
//! server gives (`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, and the property `combined`).

use serde_json::{Value, json};

/// A kind of message that the synthetic exchange has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Trade,
    Ticker,
    Depth,
}

/// A stream somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// As asked for: it is told back like this.
    name: String,
    /// What it means: a symbol by its number, and a kind. `None` where the exchange has no such stream; as at Binance, the
    /// request succeeds and nothing ever comes.
    meaning: Option<(usize, Kind)>,
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Streams {
    /// Lower case, in the order in which the exchange numbers them.
    symbols: Vec<String>,
    /// `None` until the client says which streams it wants: then it gets all.
    wanted: Option<Vec<Wanted>>,
    /// Whether each message is wrapped in `{"stream":..,"data":..}`.
    combined: bool,
    /// The names of streams nobody asked for: three per symbol.
    names: Vec<[String; 3]>,
}

impl Streams {
    /// What a client gets that asked for `path`: `/ws`, `/ws/<stream>/<stream>`, `/stream`, or
    /// `/stream?streams=<stream>/<stream>`. Any other path is as good as `/ws`: other venues have others.
    pub(super) fn new(symbols: &[String], path: &str) -> Self {
        let symbols: Vec<String> = symbols.iter().map(|symbol| symbol.to_lowercase()).collect();
        let names = symbols
            .iter()
            .map(|symbol| [format!("{symbol}@trade"), format!("{symbol}@bookTicker"), format!("{symbol}@depth@100ms")]);
        let mut streams = Self { names: names.collect(), symbols, wanted: None, combined: false };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let asked = if let Some(rest) = path.strip_prefix("/stream") {
            streams.combined = rest.is_empty();
            query.split('&').find_map(|pair| pair.strip_prefix("streams=")).unwrap_or("")
        } else {
            path.strip_prefix("/ws/").unwrap_or("")
        };
        for name in asked.split('/').filter(|name| !name.is_empty()) {
            streams.subscribe(name);
        }
        streams
    }

    /// Whether each message is wrapped.
    pub(super) const fn are_combined(&self) -> bool {
        self.combined
    }

    /// Whether there is any stream that this client gets.
    pub(super) fn any(&self) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|it| it.meaning.is_some()))
    }

    /// The name under which the client gets this stream. `None` where it does not.
    #[inline]
    pub(super) fn name_of(&self, symbol: usize, kind: Kind) -> Option<&str> {
        match &self.wanted {
            None => Some(&self.names[symbol][kind as usize]),
            Some(wanted) => wanted.iter().find(|it| it.meaning == Some((symbol, kind))).map(|it| it.name.as_str()),
        }
    }

    /// Reads a message from the client. Answers what it is to be told; `None` where the message is no request that such a
    /// server knows.
    pub(super) fn request(&mut self, message: &str) -> Option<String> {
        let request: Value = serde_json::from_str(message).ok()?;
        let id = request.get("id").cloned().unwrap_or(Value::Null);
        let params = request.get("params").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let result = match request.get("method")?.as_str()? {
            "SUBSCRIBE" => {
                params.iter().filter_map(Value::as_str).for_each(|name| self.subscribe(name));
                Value::Null
            }
            "UNSUBSCRIBE" => {
                let names: Vec<&str> = params.iter().filter_map(Value::as_str).collect();
                self.wanted.get_or_insert_default().retain(|it| !names.contains(&it.name.as_str()));
                Value::Null
            }
            "LIST_SUBSCRIPTIONS" => {
                self.wanted.iter().flatten().map(|it| Value::from(it.name.as_str())).collect::<Vec<_>>().into()
            }
            "SET_PROPERTY" if params.first().and_then(Value::as_str) == Some("combined") => {
                self.combined = params.get(1).and_then(Value::as_bool)?;
                Value::Null
            }
            "GET_PROPERTY" if params.first().and_then(Value::as_str) == Some("combined") => self.combined.into(),
            _ => return None,
        };
        // Written by hand: Binance puts the result first, and a map would sort its keys.
        Some(format!("{{\"result\":{},\"id\":{id}}}", json!(result)))
    }

    fn subscribe(&mut self, name: &str) {
        let meaning = self.meaning_of(name);
        let wanted = self.wanted.get_or_insert_default();
        if !wanted.iter().any(|it| it.name == name) {
            wanted.push(Wanted { name: name.to_owned(), meaning });
        }
    }

    fn meaning_of(&self, name: &str) -> Option<(usize, Kind)> {
        let (symbol, kind) = name.split_once('@')?;
        let symbol = self.symbols.iter().position(|known| known == symbol)?;
        let kind = match kind {
            "trade" => Kind::Trade,
            "bookTicker" => Kind::Ticker,
            "depth" | "depth@100ms" | "depth@0ms" => Kind::Depth,
            _ => return None,
        };
        Some((symbol, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(path: &str) -> Streams {
        Streams::new(&["BTCUSDT".into(), "ETHUSDT".into()], path)
    }

    fn ask(streams: &mut Streams, method: &str, params: &str) -> String {
        streams.request(&format!(r#"{{"method":"{method}","params":{params},"id":7}}"#)).unwrap()
    }

    #[test]
    fn a_path_says_which_streams_and_in_which_form() {
        let all = streams("/ws");
        assert!(all.any() && !all.are_combined());
        assert_eq!(all.name_of(1, Kind::Depth), Some("ethusdt@depth@100ms"));
        let raw = streams("/ws/btcusdt@trade/ethusdt@depth");
        assert!(!raw.are_combined());
        assert_eq!(raw.name_of(0, Kind::Trade), Some("btcusdt@trade"));
        assert_eq!(raw.name_of(1, Kind::Depth), Some("ethusdt@depth"));
        assert_eq!(raw.name_of(0, Kind::Depth), None);
        let combined = streams("/stream?x=1&streams=btcusdt@bookTicker");
        assert!(combined.are_combined());
        assert_eq!(combined.name_of(0, Kind::Ticker), Some("btcusdt@bookTicker"));
        assert_eq!(combined.name_of(0, Kind::Trade), None);
        assert!(streams("/stream").are_combined() && streams("/stream").any());
        assert!(!streams("/v5/public/spot").are_combined());
    }

    #[test]
    fn requests_are_answered_as_binance_does() {
        let mut it = streams("/ws");
        assert_eq!(ask(&mut it, "LIST_SUBSCRIPTIONS", "[]"), r#"{"result":[],"id":7}"#);
        assert_eq!(ask(&mut it, "SUBSCRIBE", r#"["btcusdt@trade","btcusdt@kline_1m"]"#), r#"{"result":null,"id":7}"#);
        assert_eq!(it.name_of(0, Kind::Trade), Some("btcusdt@trade"));
        assert_eq!(it.name_of(0, Kind::Ticker), None, "what is not subscribed to does not come any more");
        assert_eq!(
            ask(&mut it, "LIST_SUBSCRIPTIONS", "[]"),
            r#"{"result":["btcusdt@trade","btcusdt@kline_1m"],"id":7}"#
        );
        assert_eq!(ask(&mut it, "UNSUBSCRIBE", r#"["btcusdt@trade"]"#), r#"{"result":null,"id":7}"#);
        assert!(!it.any(), "the stream that is left is one the exchange does not have");
        assert_eq!(ask(&mut it, "SET_PROPERTY", r#"["combined",true]"#), r#"{"result":null,"id":7}"#);
        assert_eq!(ask(&mut it, "GET_PROPERTY", r#"["combined"]"#), r#"{"result":true,"id":7}"#);
        assert_eq!(
            it.request(r#"{"method":"SUBSCRIBE","params":[],"id":"a"}"#).as_deref(),
            Some(r#"{"result":null,"id":"a"}"#)
        );
    }

    #[test]
    fn what_is_no_request_gets_no_answer() {
        for message in ["", "hello", "{}", r#"{"method":"subscribe","params":{}}"#, r#"{"op":"subscribe"}"#, "8123"] {
            assert_eq!(streams("/ws").request(message), None, "{message}");
        }
    }
}
