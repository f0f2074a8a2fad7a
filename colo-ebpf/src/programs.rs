//! Entry points, the mode and settings they decide by, and the straight way through.

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::{map, xdp},
    maps::{Array, DevMap},
    programs::XdpContext,
};
use colo_ebpf::{ABI_VERSION, Counter, Hold, Mode, PORT_GUEST, PORT_UPLINK, Settings};

use crate::{
    counters::{count, drop},
    deadman, edit, hold, mirror, parse,
    translate::{self, Fate},
};

#[map]
static MODE: Array<u32> = Array::with_max_entries(1, 0);

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

#[map]
static PORTS: DevMap = DevMap::with_max_entries(2, 0);

/// Guest output.
#[xdp]
pub fn colo_guest(ctx: XdpContext) -> u32 {
    let Some((mode, settings)) = configuration() else {
        return drop(Counter::GuestMisconfigured);
    };
    let mode = match deadman::look(mode) {
        deadman::Fate::InTime => mode,
        deadman::Fate::LeaseOver => return drop(Counter::GuestLeaseOver),
        deadman::Fate::Closed => return drop(Counter::GuestDeadmanClosed),
        deadman::Fate::Open => {
            count(Counter::GuestDeadmanOpened);
            Mode::Pass
        }
    };
    if mode == Mode::Pass && parse::exceeds(&ctx, settings.uplink_limit) {
        return drop(Counter::GuestPassTooLong);
    }
    // What is held is in wire space already. A secondary's agent translates itself.
    if matches!(mode, Mode::Pass | Mode::Protect) && !settle(&ctx, translate::output(&ctx)) {
        return drop(Counter::GuestUntranslatable);
    }
    match mode {
        Mode::Protect | Mode::Secondary if settings.hold == Hold::Ring as u32 => {
            hold::to_ring(&ctx, settings)
        }
        Mode::Protect | Mode::Secondary => hold::to_socket(&ctx, settings),
        Mode::Pass => forward(PORT_UPLINK, Counter::GuestPassed, Counter::GuestNoUplink),
        Mode::Closed => drop(Counter::GuestClosed),
    }
}

/// Guest input.
#[xdp]
pub fn colo_uplink(ctx: XdpContext) -> u32 {
    let Some((mode, settings)) = configuration() else {
        return drop(Counter::UplinkMisconfigured);
    };
    if settings.filter != 0 {
        match parse::destination(&ctx) {
            None => return drop(Counter::UplinkRunt),
            Some(address) if parse::is_for(address, settings.guest_mac) => {}
            Some(_) => {
                count(Counter::UplinkNotForGuest);
                return XDP_PASS;
            }
        }
    }
    match deadman::look(mode) {
        deadman::Fate::LeaseOver => return drop(Counter::UplinkLeaseOver),
        // The copies would find no reader, and what the guest makes of the frames no listener.
        deadman::Fate::Closed => return drop(Counter::UplinkDeadmanClosed),
        // An agent that comes back must be able to count what its guest got.
        deadman::Fate::InTime | deadman::Fate::Open => {}
    }
    match mode {
        Mode::Closed => return drop(Counter::UplinkClosed),
        Mode::Secondary => return drop(Counter::UplinkSecondary),
        Mode::Pass | Mode::Protect => {}
    }
    // The kernel would drop it after the verdict, in silence.
    if parse::exceeds(&ctx, settings.guest_limit) {
        return drop(Counter::UplinkTooLong);
    }
    if PORTS.get_ifindex(PORT_GUEST).is_none() {
        return drop(Counter::UplinkNoGuest);
    }
    let fate = translate::input(&ctx);
    if matches!(fate, Fate::Untranslatable) {
        return drop(Counter::UplinkUntranslatable);
    }
    // The copy is in wire space.
    if mode == Mode::Protect {
        mirror::copy(&ctx);
    }
    if !settle(&ctx, fate) {
        return drop(Counter::UplinkUntranslatable);
    }
    let counter = if mode == Mode::Pass { Counter::UplinkPassed } else { Counter::UplinkForwarded };
    forward(PORT_GUEST, counter, Counter::UplinkNoGuest)
}

/// Does what translation decided; false if the frame must not go on.
#[inline(always)]
fn settle(ctx: &XdpContext, fate: Fate) -> bool {
    match fate {
        Fate::AsIs => true,
        Fate::Edited(window) => edit::store(ctx, window),
        Fate::Untranslatable => false,
    }
}

fn configuration() -> Option<(Mode, &'static Settings)> {
    let mode = Mode::from_word(*MODE.get(0)?)?;
    let settings = SETTINGS.get(0)?;
    (settings.abi == ABI_VERSION).then_some((mode, settings))
}

#[inline(always)]
fn forward(port: u32, sent: Counter, missing: Counter) -> u32 {
    match PORTS.redirect(port, u64::from(XDP_DROP)) {
        Ok(verdict) => {
            count(sent);
            verdict
        }
        Err(_) => drop(missing),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: the programs have no path that panics.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
