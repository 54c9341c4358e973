//! The trades of a Binance stream, one line each, until Ctrl-C:
//!
//! ```text
//! cargo build --release --example trades
//! sudo target/release/examples/trades wss://stream.binance.com:9443/ws/btcusdt@trade
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wiretick::event::{Body, Event};
use wiretick::feed::Feed;
use wiretick::path::Context;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: trades URL")?;
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))?;

    let mut feed = Feed::builder(&url).connect()?;
    let mut print = |event: &Event<'_>, context: &mut Context<'_, '_>| {
        if let Some(gap) = &context.gap {
            eprintln!("missed something: {gap:?}");
        }
        if let Body::Trade(trade) = &event.body {
            println!("{} {} {} x {}", trade.trade_id, trade.symbol, trade.price, trade.quantity);
        }
    };
    let outcome = feed.run(&mut print, || !stop.load(Ordering::Relaxed))?;
    eprintln!("{}: {outcome:?}", feed.mode());
    Ok(())
}
