//! A wire made of two taps whose frames this process carries, as a QEMU does: the host's interface is fed through its
//! fd. On the way a relay can put a VLAN tag on the host's side of the wire, so that the agents see tagged frames
//! also on a kernel that has no VLAN devices.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;

use crate::{netns::Netns, tap::Tap};

/// How often a relay that is idle looks whether it shall end.
const LOOK: Duration = Duration::from_millis(50);
/// Frames that either tap keeps while the relay is off its processor: more than all windows that the lab's loads fill. A
/// tap does not hold its sender back, it drops.
const QUEUE: u32 = 10_000;
/// Both MAC addresses: what precedes a tag.
const ADDRESSES: usize = 12;

/// Which way frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the guest, or whoever has the far tap.
    Output,
    /// To the guest.
    Input,
}

/// What one way loses: of each `every` frames the last `burst`.
#[derive(Debug, Default)]
struct Losses {
    every: AtomicU64,
    burst: AtomicU64,
}

/// Two taps and the threads that carry frames between them; the taps go with it.
#[derive(Debug)]
pub struct Relay {
    stop: Arc<AtomicBool>,
    losses: [Arc<Losses>; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Makes the tap `near` in `host` and the tap `far` in `other` and joins them; with `vlan`, frames are tagged on
    /// the near side and untagged on the far side, and what comes untagged from the near side is dropped.
    pub fn new(host: &Netns, near: &str, other: &Netns, far: &str, vlan: Option<u16>) -> Result<Self> {
        let tap = |namespace: &Netns, name: &str| -> Result<Arc<Tap>> {
            let tap = Tap::new(namespace, name)?;
            namespace.run(&format!("ip link set {name} txqueuelen {QUEUE}"))?;
            Ok(Arc::new(tap))
        };
        let (near, far) = (tap(host, near)?, tap(other, far)?);
        let stop = Arc::new(AtomicBool::new(false));
        let tag = move |frame: Vec<u8>| match vlan {
            Some(id) => Some(push(&frame, id)),
            None => Some(frame),
        };
        let untag = move |frame: Vec<u8>| match vlan {
            Some(id) => pop(&frame, id),
            None => Some(frame),
        };
        let losses: [Arc<Losses>; 2] = Default::default();
        let start = |way: Way, from: &Arc<Tap>, to: &Arc<Tap>, change: Change| {
            let (from, to) = (Arc::clone(from), Arc::clone(to));
            let (stop, losses) = (Arc::clone(&stop), Arc::clone(&losses[way as usize]));
            thread::spawn(move || carry(&from, &to, &stop, &losses, &change))
        };
        let threads = vec![
            start(Way::Output, &far, &near, Box::new(tag)),
            start(Way::Input, &near, &far, Box::new(untag)),
        ];
        Ok(Self { stop, losses, threads })
    }

    /// From now on loses the last `burst` of each `every` frames that go this way; 0 ends it.
    pub fn lose(&self, way: Way, burst: u64, every: u64) {
        let losses = &self.losses[way as usize];
        losses.burst.store(burst, Ordering::Relaxed);
        losses.every.store(every, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in it was printed when it happened.
            let _ = thread.join();
        }
    }
}

/// What is done to each frame on its way; none drops it.
type Change = Box<dyn Fn(Vec<u8>) -> Option<Vec<u8>> + Send>;

/// Carries frames one way until it is stopped or the tap is gone.
fn carry(from: &Tap, to: &Tap, stop: &AtomicBool, losses: &Losses, change: &Change) {
    for count in 0_u64.. {
        let frame = loop {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match from.read(LOOK) {
                Ok(Some(frame)) => break frame,
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        };
        let (burst, every) = (losses.burst.load(Ordering::Relaxed), losses.every.load(Ordering::Relaxed));
        if every != 0 && count % every + burst >= every {
            continue;
        }
        if let Some(frame) = change(frame) {
            // An interface that is down takes nothing, as an unplugged wire.
            let _ = to.write(&frame);
        }
    }
}

/// The frame with an 802.1Q tag after its addresses.
fn push(frame: &[u8], id: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(ADDRESSES.min(frame.len()));
    [addresses, &[0x81, 0x00], &id.to_be_bytes(), rest].concat()
}

/// The frame without its 802.1Q tag, if it has the one of `id`.
fn pop(frame: &[u8], id: u16) -> Option<Vec<u8>> {
    let tag = frame.get(ADDRESSES..ADDRESSES + 4)?;
    let ours = tag[..2] == [0x81, 0x00] && u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff == id;
    ours.then(|| [&frame[..ADDRESSES], &frame[ADDRESSES + 4..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_on_and_off() {
        let frame: Vec<u8> = (0..60).collect();
        let tagged = push(&frame, 100);
        assert_eq!(tagged[12..18], [0x81, 0, 0, 100, 12, 13]);
        assert_eq!(pop(&tagged, 100), Some(frame.clone()));
        assert_eq!(pop(&tagged, 101), None);
        assert_eq!(pop(&frame, 100), None);
        assert_eq!(pop(&frame[..13], 100), None);
    }
}
