//! Real TCP streams between real stacks through the data path, every frame held and released at once.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use colo_tests::{
    ends::{GUEST, UPLINK},
    netns::Netns,
};
use colo_user::datapath::{AttachMode, Config, Datapath, HoldBackend, Role};

const BYTES: u64 = 32 << 20;
const CHUNK: usize = 64 * 1024;

struct Net {
    host: Netns,
    guest: Netns,
    client: Netns,
}

impl Net {
    fn new() -> Result<Self> {
        let net = Self {
            host: Netns::new("colo-host")?,
            guest: Netns::new("colo-guest")?,
            client: Netns::new("colo-client")?,
        };
        net.host.veth(GUEST, &net.guest, "eth0")?;
        net.host.veth(UPLINK, &net.client, "eth0")?;
        for (namespace, last) in [(&net.guest, 1), (&net.client, 2)] {
            namespace.run(&format!("ip addr add 192.0.2.{last}/24 dev eth0"))?;
            namespace.run(&format!("ip addr add 2001:db8::{last}/64 dev eth0 nodad"))?;
        }
        Ok(net)
    }
}

/// The bytes of a stream from `offset` on: the same for every reader, different at every offset.
fn fill(offset: u64, bytes: &mut [u8]) {
    for (at, byte) in (offset..).zip(bytes) {
        *byte = (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
    }
}

fn say(mut to: impl Write) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    for offset in (0..BYTES).step_by(CHUNK) {
        fill(offset, &mut chunk);
        to.write_all(&chunk)?;
    }
    Ok(())
}

/// Reads the whole stream and compares it with `expected` made of each offset.
fn check(mut from: impl Read, expected: impl Fn(u64, &mut [u8])) -> Result<()> {
    let (mut heard, mut should) = (vec![0; CHUNK], vec![0; CHUNK]);
    for offset in (0..BYTES).step_by(CHUNK) {
        from.read_exact(&mut heard).with_context(|| format!("after {offset} bytes"))?;
        expected(offset, &mut should);
        ensure!(heard == should, "the stream differs within {CHUNK} bytes after {offset}");
    }
    Ok(())
}

fn relay(datapath: &mut Datapath, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        datapath.wait(&[], &[], Some(Duration::from_millis(50)))?;
        while let Some(held) = datapath.next_captured() {
            datapath.release(held.id);
        }
        datapath.next_mirrored(|_| {});
        datapath.flush()?;
    }
    Ok(())
}

/// One download and one upload of [`BYTES`]; returns how long each took.
fn transfer(net: &Net, address: &str) -> Result<[Duration; 2]> {
    let listener = net.guest.enter(|| TcpListener::bind(address))?;
    let address: SocketAddr = listener.local_addr()?;
    thread::scope(|scope| {
        let guest = scope.spawn(move || -> Result<()> {
            let (stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            say(&stream)?;
            check(&stream, fill)?;
            Ok(stream.shutdown(Shutdown::Both)?)
        });
        let stream = net.client.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let start = Instant::now();
        check(&stream, fill)?;
        let down = start.elapsed();
        say(&stream)?;
        guest.join().expect("no panic in the guest")?;
        Ok([down, start.elapsed().saturating_sub(down)])
    })
}

#[test]
fn streams_arrive_whole_in_both_directions() -> Result<()> {
    for attach in [AttachMode::Native, AttachMode::Skb] {
        for hold in [HoldBackend::Afxdp, HoldBackend::Ringbuf] {
            let net = Net::new()?;
            let config = Config { attach, hold, ..Config::new(Role::Primary, GUEST, UPLINK) };
            let mut datapath = net.host.enter(|| Datapath::attach(&config))?;
            let stop = AtomicBool::new(false);
            let times = thread::scope(|scope| {
                let relay = scope.spawn(|| relay(&mut datapath, &stop));
                let times = ["192.0.2.1:0", "[2001:db8::1]:0"].map(|address| transfer(&net, address));
                stop.store(true, Ordering::Relaxed);
                relay.join().expect("no panic in the relay")?;
                times.into_iter().collect::<Result<Vec<_>>>()
            })?;
            println!("{attach:?} {hold:?}: {} MiB down and up: {times:?}", BYTES >> 20);
            let counters = datapath.counters();
            for name in
                ["hold_lost", "uplink_mirror_lost", "guest_hold_too_long", "uplink_too_long", "stale_frame"]
            {
                ensure!(counters.get(name) == Some(0), "{attach:?} {hold:?}: {name}: {counters:?}");
            }
            println!(
                "  refused {:?}, uplink dropped {:?}, guest dropped {:?}",
                counters.get("release_refused"),
                counters.get("uplink_tx_dropped"),
                counters.get("guest_tx_dropped")
            );
            let pressure = datapath.pressure();
            ensure!(pressure.held == 0 && pressure.total == config.frames, "{pressure:?}");
        }
    }
    Ok(())
}

#[test]
fn a_corrupted_byte_in_a_stream_would_be_seen() {
    let mut stream = vec![0; BYTES as usize];
    fill(0, &mut stream);
    assert!(check(&stream[..], fill).is_ok());
    stream[BYTES as usize / 2] ^= 1;
    let error = check(&stream[..], fill).unwrap_err().to_string();
    assert!(error.contains("differs"), "{error}");
}
