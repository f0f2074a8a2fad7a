//! One thread of the traffic: a connection that is kept, or a row of short ones.

use std::{
    collections::VecDeque,
    io::{BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    super::{
        content::Mismatch,
        load::{self, Http, Patient, Received, Wait, datagram},
        replica::{ECHO, HTTP, LINES},
    },
    BURST, Connection, Kind, LOOK, Plan, Sample, Shared, Stream, named, no_wait,
    report::Gap,
};

/// Datagrams whose answers may come again: those of some seconds.
const EARLIER: usize = 4096;
/// Bytes of an answer of the line protocol and of a datagram.
const SMALL: usize = 1024;
/// Bytes of one request of a bulk connection.
const BULK: u64 = 1 << 20;
/// Samples kept of one stream: an hour's worth of its requests; what is beyond is counted, not drawn.
const SAMPLES: usize = 1 << 20;

type Lines<'a> = BufReader<Patient<'a>>;

/// Does what the stream's kind says until the traffic ends or the connection breaks.
pub(super) fn run(
    shared: &Shared<'_>,
    plan: &Plan,
    index: usize,
    stream: &Stream,
) -> (Connection, Vec<Sample>) {
    let mut worker = Worker {
        shared,
        plan,
        index,
        stream,
        next_seed: plan.seed ^ (index as u64 + 1) << 40,
        due: 0,
        longest: no_wait(shared),
        samples: Vec::new(),
        connection: Connection {
            name: named(stream),
            kind: stream.kind,
            done: 0,
            bytes: 0,
            lost: 0,
            resent: 0,
            longest: Gap::default(),
            broken: None,
            failures: 0,
        },
    };
    let outcome = match stream.kind {
        Kind::Idle => worker.idle(),
        Kind::Lines => worker.lines(),
        Kind::Download => worker.download(),
        Kind::Upload => worker.upload(),
        Kind::Short => {
            worker.short();
            Ok(())
        }
        Kind::Dialled => worker.dialled(),
        Kind::Datagram => worker.datagrams(),
        Kind::Burst => worker.burst(),
    };
    if let Err(error) = outcome {
        worker.broke(&error);
    }
    shared.ended[index].store(true, Ordering::Relaxed);
    let mut connection = worker.connection;
    connection.longest = Gap::of(worker.longest, shared.begun);
    (connection, worker.samples)
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    plan: &'a Plan,
    index: usize,
    stream: &'a Stream,
    next_seed: u64,
    /// Bytes of the request under way that have not come yet.
    due: u64,
    longest: Wait,
    samples: Vec<Sample>,
    connection: Connection,
}

impl<'a> Worker<'a> {
    fn seed(&mut self) -> u64 {
        self.next_seed += 1;
        self.next_seed
    }

    fn server(&self, port: u16) -> SocketAddr {
        (self.stream.server, port).into()
    }

    fn ending(&self) -> bool {
        self.shared.ending.load(Ordering::Relaxed) || self.shared.stop.load(Ordering::Relaxed)
    }

    fn gives_up(&self, begun: Instant) -> bool {
        begun.elapsed() > self.plan.patience || self.shared.stop.load(Ordering::Relaxed)
    }

    fn pause(&self) {
        if !self.stream.pause.is_zero() {
            thread::sleep(self.stream.pause);
        }
    }

    /// A request was answered right.
    fn done(&mut self, begun: Instant, bytes: u64) {
        self.due = 0;
        self.connection.done += 1;
        self.connection.bytes += bytes;
        self.shared.done[self.index].fetch_add(1, Ordering::Relaxed);
        if self.samples.len() < SAMPLES {
            let at = begun.saturating_duration_since(self.shared.begun);
            self.samples.push(Sample { at, latency: begun.elapsed(), kind: self.stream.kind });
        }
    }

    fn broke(&mut self, error: &anyhow::Error) {
        self.connection.lost += std::mem::take(&mut self.due);
        self.connection.failures += 1;
        let at = self.shared.begun.elapsed();
        self.connection.broken.get_or_insert_with(|| format!("after {at:.1?}: {error:#}"));
    }

    fn waited(&mut self, wait: Wait) {
        self.longest = self.longest.longer(wait);
    }

    fn open(&self) -> Result<Lines<'a>> {
        Ok(BufReader::new(load::connect(self.server(LINES), self.plan.patience, self.shared.stop)?))
    }

    /// One request of the line protocol.
    fn ask(&mut self, lines: &mut Lines<'a>) -> Result<()> {
        let begun = Instant::now();
        self.due = SMALL as u64;
        let asked = load::ask(lines, self.seed(), SMALL);
        self.waited(lines.get_ref().longest_wait());
        asked?;
        self.done(begun, SMALL as u64);
        Ok(())
    }

    fn idle(&mut self) -> Result<()> {
        let mut lines = self.open()?;
        self.ask(&mut lines)?;
        while !self.ending() {
            thread::sleep(LOOK);
        }
        self.ask(&mut lines)?;
        load::end(&mut lines)
    }

    fn lines(&mut self) -> Result<()> {
        let mut lines = self.open()?;
        self.ask_until_the_end(&mut lines)?;
        load::end(&mut lines)
    }

    fn dialled(&mut self) -> Result<()> {
        let any = if self.stream.server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let listener = TcpListener::bind(any)?;
        let mut request = load::connect(self.server(LINES), self.plan.patience, self.shared.stop)?;
        writeln!(request, "dial {}", listener.local_addr()?.port())?;
        let accepted = Patient::accept(&listener, self.plan.patience, self.shared.stop);
        let mut lines = BufReader::new(accepted.context("waiting for the guest to connect")?);
        self.ask_until_the_end(&mut lines)?;
        load::end(&mut lines)
    }

    fn ask_until_the_end(&mut self, lines: &mut Lines<'a>) -> Result<()> {
        while !self.ending() {
            self.ask(lines)?;
            self.pause();
        }
        Ok(())
    }

    fn http(&self) -> Result<Http<'a>> {
        Http::connect(self.server(HTTP), self.plan.patience, self.shared.stop)
    }

    fn download(&mut self) -> Result<()> {
        let mut http = self.http()?;
        while !self.ending() {
            let begun = Instant::now();
            let mut received = Received::default();
            let outcome = http.download_counted(self.seed(), BULK, false, &mut received);
            self.waited(http.longest_wait());
            // Whole and yet not right: it cannot be said which of it is.
            self.due = if received.body == BULK { BULK } else { BULK - received.body };
            outcome?;
            self.done(begun, BULK);
            self.pause();
        }
        Ok(())
    }

    fn upload(&mut self) -> Result<()> {
        let mut http = self.http()?;
        while !self.ending() {
            let begun = Instant::now();
            self.due = BULK;
            let outcome = http.upload(self.seed(), BULK);
            self.waited(http.longest_wait());
            outcome?;
            self.done(begun, BULK);
            self.pause();
        }
        Ok(())
    }

    /// A connection that fails is counted, and the next one begins.
    fn short(&mut self) {
        while !self.ending() {
            let outcome = self.one_short();
            if let Err(error) = outcome {
                self.broke(&error);
            }
            self.pause();
        }
    }

    fn one_short(&mut self) -> Result<()> {
        let begun = Instant::now();
        self.due = SMALL as u64;
        let mut lines = self.open()?;
        let seed = self.seed();
        let outcome = load::ask(&mut lines, seed, SMALL).and_then(|()| load::end(&mut lines));
        self.waited(lines.get_ref().longest_wait());
        outcome?;
        self.done(begun, SMALL as u64);
        Ok(())
    }

    fn datagrams(&mut self) -> Result<()> {
        // After a takeover answers come again that the clients may lack, each to the port that asked for it.
        let mut earlier = VecDeque::with_capacity(EARLIER);
        while !self.ending() {
            let (begun, seed) = (Instant::now(), self.seed());
            loop {
                let before = earlier.make_contiguous();
                match datagram::udp(self.server(ECHO), seed, SMALL, before, self.shared.stop) {
                    Ok(sends) => {
                        self.connection.resent += u64::from(sends - 1);
                        break;
                    }
                    // Datagrams may be lost; wrong bytes are no loss.
                    Err(error) if error.is::<Mismatch>() || self.gives_up(begun) => return Err(error),
                    Err(_) => self.connection.resent += u64::from(datagram::SENDS),
                }
            }
            if earlier.len() == EARLIER {
                earlier.pop_front();
            }
            earlier.push_back(seed);
            self.waited(Wait { begun, length: begun.elapsed() });
            self.done(begun, SMALL as u64);
            self.pause();
        }
        Ok(())
    }

    /// Waits for the word and opens all at once; each is asked once and ended.
    fn burst(&mut self) -> Result<()> {
        while !self.shared.burst.load(Ordering::Relaxed) {
            if self.ending() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        let begun = Instant::now();
        let opened: Vec<_> = thread::scope(|scope| {
            let worker = &*self;
            let opening: Vec<_> = (0..BURST).map(|_| scope.spawn(|| worker.open())).collect();
            opening
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for lines in opened {
            self.due = SMALL as u64;
            let seed = self.seed();
            let outcome = lines.and_then(|mut lines| {
                let outcome = load::ask(&mut lines, seed, SMALL).and_then(|()| load::end(&mut lines));
                self.waited(lines.get_ref().longest_wait());
                outcome
            });
            match outcome {
                Ok(()) => self.done(begun, SMALL as u64),
                Err(error) => self.broke(&error),
            }
        }
        Ok(())
    }
}
