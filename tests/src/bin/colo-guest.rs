//! `colo-guest`: the init of the lab's VMs. See [`colo_tests::pair::guest`].

use anyhow::Result;

fn main() -> Result<()> {
    colo_tests::pair::guest::init().map(|never| match never {})
}
