//! Tests of the translator as its callers see it. [`frames`] builds frames and is the oracle of their checksums.

mod bounds;
mod codec;
mod edits;
mod fragments;
mod frames;
mod handshake;
mod joined;
mod lifetime;
mod properties;
mod takeover;
