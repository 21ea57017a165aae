//! Free ports of this machine.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which systems take the ports of outgoing connections: a port that was found free is not taken
/// by a client's connection before its process listens.
const RANGE: Range<u16> = 15_000..31_000;

/// Where the next search begins. Zero until the first search of this process.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// Finds a port on which nothing listens and that this process has not given out lately.
///
/// Processes begin their searches at different places, so that two data planes that start together do not meet.
pub(crate) fn free_port() -> std::io::Result<u16> {
    let length = RANGE.end - RANGE.start;
    let begin = u16::try_from(std::process::id().wrapping_mul(7919) % u32::from(length))
        .unwrap_or_default();
    for _ in 0..length {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % length;
        let port = RANGE.start + (begin + step) % length;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::AddrInUse,
        "no port between 15000 and 31000 is free",
    ))
}
