//! Counters of the XDP programs, one per reason. Every frame that a program sees raises exactly one of those
//! that are verdicts; [`Counter::is_verdict`] tells them from the ones that qualify a verdict.

macro_rules! counters {
    ($($variant:ident $name:literal $verdict:literal $help:literal)+) => {
        /// What a counter of [`MAP_COUNTERS`](crate::MAP_COUNTERS) counts, by its index there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter {
            $(#[doc = $help] $variant,)+
        }

        impl Counter {
            /// All counters, in the order of their indices.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant,)+];
            /// Number of counters.
            pub const COUNT: usize = [$($name,)+].len();

            /// Name in status and metrics, an interface.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One line for an operator.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }

            /// True if the counter is the fate of a frame.
            #[must_use]
            pub const fn is_verdict(self) -> bool {
                match self { $(Self::$variant => $verdict,)+ }
            }
        }
    };
}

counters! {
    GuestHeld "guest_held" true "Guest frames handed to the agent to be held."
    GuestHoldTooLong "guest_hold_too_long" true "Guest frames dropped because they are longer than the held path or the uplink carries: switch off the guest's segmentation offload, or lower its MTU."
    GuestHoldNoSocket "guest_hold_no_socket" true "Guest frames dropped because no socket is bound to their receive queue."
    GuestHoldRingFull "guest_hold_ring_full" true "Guest frames dropped because the ring buffer of held frames was full."
    GuestHoldNoRoom "guest_hold_no_room" true "Guest frames dropped because the driver left no headroom for the capture stamp."
    GuestPassed "guest_passed" true "Guest frames sent straight to the uplink."
    GuestPassTooLong "guest_pass_too_long" true "Guest frames dropped because they are longer than the uplink's MTU allows: switch off the guest's segmentation offload, or lower its MTU."
    GuestNoUplink "guest_no_uplink" true "Guest frames dropped because the uplink is not in the device map."
    GuestClosed "guest_closed" true "Guest frames dropped in mode closed."
    GuestLeaseOver "guest_lease_over" true "Guest frames dropped because the lease of this side had passed."
    GuestDeadmanClosed "guest_deadman_closed" true "Guest frames dropped because the agent had shown no sign of life for --deadman-limit."
    GuestDeadmanOpened "guest_deadman_opened" false "Guest frames that went straight through, uncompared, because the agent had shown no sign of life for --deadman-limit."
    GuestMisconfigured "guest_misconfigured" true "Guest frames dropped because mode or settings are of another version."
    GuestStampInHead "guest_stamp_in_head" false "Guest frames whose stamp went into the frame's head because the driver has no metadata area."
    GuestTranslated "guest_translated" false "Guest frames whose sequence numbers or timestamps were translated, ICMP errors that quote such a flow included."
    GuestTimestampRaised "guest_timestamp_raised" false "Translated guest frames whose timestamp was raised to the last one that the client has got."
    GuestUntranslatable "guest_untranslatable" true "Guest frames dropped because they belong to a translated flow and cannot be translated: fragmented, signed (TCP-MD5, TCP-AO), headers too long, or the flow's delta is not known yet."
    UplinkForwarded "uplink_forwarded" true "Client frames sent to the guest and numbered."
    UplinkMirrorLost "uplink_mirror_lost" false "Client frames that the guest got but whose copy found no room in the mirror ring: lost input of the secondary."
    UplinkPassed "uplink_passed" true "Client frames sent straight to the guest."
    UplinkTooLong "uplink_too_long" true "Client frames dropped because they are longer than the guest interface's MTU allows: switch off receive offload on the uplink and transmit offload on its senders."
    UplinkNoGuest "uplink_no_guest" true "Client frames dropped because the guest's interface is not in the device map."
    UplinkClosed "uplink_closed" true "Client frames dropped in mode closed."
    UplinkSecondary "uplink_secondary" true "Client frames dropped because this host is the secondary."
    UplinkNotForGuest "uplink_not_for_guest" true "Frames left to the host because they are for another address than the guest's."
    UplinkRunt "uplink_runt" true "Frames dropped because they are too short to have a destination address."
    UplinkTranslated "uplink_translated" false "Client frames whose acknowledgement was translated, ICMP errors that quote such a flow included."
    UplinkUntranslatable "uplink_untranslatable" true "Client frames dropped because they belong to a translated flow and cannot be translated: as for guest_untranslatable."
    TranslationLearned "translation_learned" false "Flows whose delta was learned in the kernel, from the first acknowledgement of the handshake."
    TranslationFull "translation_full" false "Handshakes of the guest just after a takeover that found no room in the translation map: they pass untranslated."
    UplinkLeaseOver "uplink_lease_over" true "Client frames dropped because the lease of this side had passed."
    UplinkDeadmanClosed "uplink_deadman_closed" true "Client frames dropped because the agent had shown no sign of life for --deadman-limit: the guest is silent then, and its clients say them again."
    UplinkMisconfigured "uplink_misconfigured" true "Client frames dropped because mode or settings are of another version."
}
