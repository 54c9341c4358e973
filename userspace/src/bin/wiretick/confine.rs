//! Giving up privileges as the command line says.

use wiretick::feed::Error;
use wiretick::privilege::{self, Confined, Keep, Privileges};

use crate::args::{ModeArg, PrivilegesArg, StreamArgs};
use crate::exit::Failure;

/// The first step: once connected, before the peer has said anything, and before there is a second thread. `None` where
/// everything is to be kept.
pub(crate) fn confine(args: &StreamArgs) -> Result<Option<Confined>, Failure> {
    let bypass = args.mode != ModeArg::Kernel;
    let keep = match args.privileges {
        PrivilegesArg::Keep if args.user.is_some() => {
            let text = "--user gives privileges up, and --privileges keep keeps them: leave one of them out";
            return Err(Failure::Feed(Error::Config(text.to_owned())));
        }
        PrivilegesArg::Keep => return Ok(None),
        // A connection that never leaves the kernel need not come home.
        PrivilegesArg::Demote if bypass => Keep::Demote,
        PrivilegesArg::Demote | PrivilegesArg::None => Keep::Nothing,
    };
    let mut privileges = Privileges::new(keep)
        .real_time(args.rt)
        .bypass(bypass)
        .reconnect(reconnects(args))
        .succession(args.succession.is_some());
    if let Some(name) = &args.user {
        privileges = privileges.user(name).map_err(failure)?;
    }
    privileges.confine().map(Some).map_err(failure)
}

/// Whether connections will be made anew, as [`wiretick::feed::FeedBuilder`] takes the options.
fn reconnects(args: &StreamArgs) -> bool {
    args.reconnect || args.connections > 1 || args.max_age.is_some()
}

/// The second step, once the feed needs nothing more.
pub(crate) fn seal(confined: Confined) -> Result<(), Failure> {
    let keep = confined.keep();
    confined.seal().map_err(failure)?;
    log::debug!("privileges given up; kept: {keep:?}");
    Ok(())
}

/// A thread that needs no privileges gives up its own, unless all are to be kept.
pub(crate) fn renounce_if_asked(args: &StreamArgs) -> Result<(), Failure> {
    match args.privileges {
        PrivilegesArg::Keep => Ok(()),
        PrivilegesArg::Demote | PrivilegesArg::None => privilege::renounce().map_err(failure),
    }
}

fn failure(error: privilege::Error) -> Failure {
    match error {
        privilege::Error::User { .. } => Failure::Feed(Error::Config(format!("--user: {error}"))),
        error => Failure::Machine(format!("giving up privileges: {error}")),
    }
}
