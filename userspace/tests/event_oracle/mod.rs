//! An independent decoder to compare the event stage with: `serde_json` into a tree, and the venue's documentation read
//! a second time, over that tree.
//!
//! In comes a payload, out goes what the event stage should make of it, as the JSON that the event serializes to:
//! digits are compared as text. `None` where it should be passed on raw. Nothing of the event stage is used.

use serde_json::{Map, Value, json};

/// What the event of this payload should look like; `None` where it is not JSON, not known, or has a field that does
/// not fit.
pub(crate) fn expected(payload: &[u8]) -> Option<Value> {
    let document: Value = serde_json::from_slice(payload).ok()?;
    let root = document.as_object()?;
    let (message, stream) = match (root.get("stream"), root.get("data")) {
        (Some(Value::String(stream)), Some(data)) => (data.as_object()?, Some(stream.as_str())),
        _ => (root, None),
    };
    let mut event = match message.get("e") {
        Some(Value::String(kind)) => match kind.as_str() {
            "trade" => trade(message)?,
            "aggTrade" => agg_trade(message)?,
            "bookTicker" => book_ticker(message)?,
            "depthUpdate" => depth(message)?,
            "kline" => kline(message)?,
            "serverShutdown" => json!({"type": "server_shutdown", "event_time_ms": integer(message, "E")?}),
            _ => return None,
        },
        Some(_) => return None,
        None if ["u", "s", "b", "B", "a", "A"].iter().all(|key| message.contains_key(*key)) => book_ticker(message)?,
        None if ["lastUpdateId", "bids", "asks"].iter().all(|key| message.contains_key(*key)) => {
            partial_depth(message, stream)?
        }
        None => answer(message, payload)?,
    };
    if let Some(stream) = stream {
        event["stream"] = stream.into();
    }
    Some(event)
}

fn trade(message: &Map<String, Value>) -> Option<Value> {
    let mut event = json!({
        "type": "trade",
        "event_time_ms": integer(message, "E")?,
        "trade_time_ms": integer(message, "T")?,
        "symbol": message.get("s")?.as_str()?,
        "trade_id": integer(message, "t")?,
        "price": decimal(message.get("p")?)?,
        "quantity": decimal(message.get("q")?)?,
        "buyer_is_maker": message.get("m")?.as_bool()?,
    });
    if let Some(order_type) = message.get("X") {
        event["order_type"] = order_type.as_str()?.into();
    }
    if let Some(Value::Bool(best)) = message.get("M") {
        event["best_price_match"] = (*best).into();
    }
    Some(event)
}

fn agg_trade(message: &Map<String, Value>) -> Option<Value> {
    let mut event = json!({
        "type": "agg_trade",
        "event_time_ms": integer(message, "E")?,
        "trade_time_ms": integer(message, "T")?,
        "symbol": message.get("s")?.as_str()?,
        "agg_trade_id": integer(message, "a")?,
        "price": decimal(message.get("p")?)?,
        "quantity": decimal(message.get("q")?)?,
        "first_trade_id": integer(message, "f")?,
        "last_trade_id": integer(message, "l")?,
        "buyer_is_maker": message.get("m")?.as_bool()?,
    });
    if let Some(Value::Bool(best)) = message.get("M") {
        event["best_price_match"] = (*best).into();
    }
    Some(event)
}

fn book_ticker(message: &Map<String, Value>) -> Option<Value> {
    let mut event = json!({
        "type": "book_ticker",
        "symbol": message.get("s")?.as_str()?,
        "update_id": integer(message, "u")?,
        "bid_price": decimal(message.get("b")?)?,
        "bid_quantity": decimal(message.get("B")?)?,
        "ask_price": decimal(message.get("a")?)?,
        "ask_quantity": decimal(message.get("A")?)?,
    });
    optional_integers(&mut event, message, &[("E", "event_time_ms"), ("T", "transaction_time_ms")])?;
    Some(event)
}

fn depth(message: &Map<String, Value>) -> Option<Value> {
    let mut event = json!({
        "type": "depth",
        "event_time_ms": integer(message, "E")?,
        "symbol": message.get("s")?.as_str()?,
        "first_update_id": integer(message, "U")?,
        "final_update_id": integer(message, "u")?,
        "bids": levels(message.get("b")?)?,
        "asks": levels(message.get("a")?)?,
    });
    optional_integers(&mut event, message, &[("T", "transaction_time_ms"), ("pu", "previous_final_update_id")])?;
    Some(event)
}

fn partial_depth(message: &Map<String, Value>, stream: Option<&str>) -> Option<Value> {
    let mut event = json!({
        "type": "partial_depth",
        "last_update_id": integer(message, "lastUpdateId")?,
        "bids": levels(message.get("bids")?)?,
        "asks": levels(message.get("asks")?)?,
    });
    if let Some(at) = stream.and_then(|stream| stream.find('@')) {
        event["symbol"] = stream?[..at].into();
    }
    Some(event)
}

fn kline(message: &Map<String, Value>) -> Option<Value> {
    let inside = message.get("k")?.as_object()?;
    let mut event = json!({
        "type": "kline",
        "event_time_ms": integer(message, "E")?,
        "symbol": message.get("s")?.as_str()?,
        "open_time_ms": integer(inside, "t")?,
        "close_time_ms": integer(inside, "T")?,
        "interval": inside.get("i")?.as_str()?,
        "trades": integer(inside, "n")?,
        "closed": inside.get("x")?.as_bool()?,
    });
    for (key, name) in [
        ("o", "open"),
        ("c", "close"),
        ("h", "high"),
        ("l", "low"),
        ("v", "base_volume"),
        ("q", "quote_volume"),
        ("V", "taker_buy_base_volume"),
        ("Q", "taker_buy_quote_volume"),
    ] {
        event[name] = decimal(inside.get(key)?)?.into();
    }
    for (key, name) in [("f", "first_trade_id"), ("L", "last_trade_id")] {
        let id = inside.get(key)?;
        if id.as_i64() != Some(-1) {
            event[name] = id.as_u64()?.into();
        }
    }
    Some(event)
}

fn answer(message: &Map<String, Value>, payload: &[u8]) -> Option<Value> {
    let refused = message.get("error").and_then(Value::as_object).unwrap_or(message);
    let refused = refused.get("code").and_then(Value::as_i64).zip(refused.get("msg").and_then(Value::as_str));
    let mut event = json!({"type": "answer", "payload": std::str::from_utf8(payload).ok()?});
    match (refused, message.get("result")) {
        _ if message.contains_key("jsonrpc") => return None,
        (Some((code, text)), _) => {
            event["outcome"] = "refused".into();
            event["code"] = code.into();
            event["message"] = text.into();
        }
        (None, Some(result)) if message.contains_key("id") => {
            event["outcome"] = "done".into();
            event["result_is_null"] = result.is_null().into();
        }
        _ => return None,
    }
    match message.get("id") {
        None | Some(Value::Null) => (),
        Some(Value::String(id)) => event["id"] = id.as_str().into(),
        Some(id) => event["id"] = id.as_i64()?.into(),
    }
    Some(event)
}

fn integer(message: &Map<String, Value>, key: &str) -> Option<u64> {
    message.get(key)?.as_u64()
}

fn optional_integers(event: &mut Value, message: &Map<String, Value>, keys: &[(&str, &str)]) -> Option<()> {
    for (key, name) in keys {
        if let Some(value) = message.get(*key) {
            event[*name] = value.as_u64()?.into();
        }
    }
    Some(())
}

fn levels(value: &Value) -> Option<Vec<Value>> {
    let level = |level: &Value| {
        let level = level.as_array()?;
        Some(json!({"price": decimal(level.first()?)?, "quantity": decimal(level.get(1)?)?}))
    };
    value.as_array()?.iter().map(level).collect()
}

/// The digits of a decimal of at most 28 digits that is not negative: of a string, or of an integer.
fn decimal(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_u64()?.to_string(),
        _ => return None,
    };
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (text.as_str(), ""),
    };
    let all_digits = !whole.is_empty() && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    let no_needless_zero = whole == "0" || !whole.starts_with('0');
    let digits = format!("{whole}{fraction}").trim_start_matches('0').len();
    (all_digits && no_needless_zero && digits <= 28 && fraction.len() <= 28).then_some(text)
}
