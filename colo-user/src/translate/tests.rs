//! Tests of the translator as its callers see it. [`frames`] builds frames and is the oracle of their checksums.

mod frames;
mod handshake;
