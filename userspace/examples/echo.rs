//! Sends every message back, in the frame type it came in, until the server closes: what an echo test wants.
//!
//! ```text
//! cargo run --release --example echo ws://127.0.0.1:9001/ [kernel|skb|driver|zerocopy|auto]
//! ```

use wiretick::event::Event;
use wiretick::feed::{Feed, Mode};
use wiretick::message::Kind;
use wiretick::path::{Context, Handler};

#[derive(Default)]
struct Echo {
    messages: u64,
    failure: Option<String>,
}

impl Handler for Echo {
    fn payload(&mut self, kind: Kind, payload: &[u8], context: &mut Context<'_, '_>) {
        self.messages += 1;
        if let Err(error) = context.sender.message(kind, payload) {
            self.failure = Some(error.to_string());
            context.stop();
        }
    }

    fn event(&mut self, _: &Event<'_>, _: &mut Context<'_, '_>) {}

    fn wants_events(&self) -> bool {
        false
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: echo URL [MODE]")?;
    let mode = match arguments.next().as_deref() {
        None | Some("kernel") => Mode::Kernel,
        Some("auto") => Mode::Auto,
        Some("skb") => Mode::Skb,
        Some("driver") => Mode::Driver,
        Some("zerocopy") => Mode::ZeroCopy,
        Some(other) => return Err(format!("{other}: not a mode").into()),
    };
    let mut feed = Feed::builder(&url).mode(mode).connect()?;
    let mut echo = Echo::default();
    let outcome = feed.run(&mut echo, || true)?;
    eprintln!("{} messages, {}: {outcome:?}", echo.messages, feed.mode());
    echo.failure.map_or(Ok(()), |why| Err(why.into()))
}
