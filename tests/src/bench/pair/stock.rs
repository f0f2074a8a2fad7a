//! QEMU's own COLO proxy, on the command lines of both VMs, as QEMU's documentation (docs/COLO-FT.txt) sets it up. The sockets
//! between the two QEMUs go over the link of the lab.

use crate::{
    lab::topology::LINK_PRIMARY,
    pair::{stage::Setup, vm::Extras},
};

/// The two VMs with the proxy; with `offloads` the frames between its parts carry the header that says what is unfinished.
pub fn setup(offloads: bool) -> Setup {
    let header = if offloads { ",vnet_hdr_support=on" } else { "" };
    let remote = |id: &str, port: u16| format!("socket,id={id},host={LINK_PRIMARY},port={port}");
    let local = |id: &str, port: u16| format!("socket,id={id},host=127.0.0.1,port={port}");
    let server = |chardev: String| ("-chardev", chardev + ",server=on,wait=off");
    let primary = [
        server(remote("mirror0", 9003)),
        server(remote("compare1", 9004)),
        server(local("compare0", 9001)),
        ("-chardev", local("compare0-0", 9001)),
        server(local("compare_out", 9005)),
        ("-chardev", local("compare_out0", 9005)),
        ("-object", format!("filter-mirror,id=m0,netdev=net0,queue=tx,outdev=mirror0{header}")),
        ("-object", format!("filter-redirector,id=redire0,netdev=net0,queue=rx,indev=compare_out{header}")),
        ("-object", format!("filter-redirector,id=redire1,netdev=net0,queue=rx,outdev=compare0{header}")),
        ("-object", "iothread,id=iothread1".to_owned()),
        (
            "-object",
            format!(
                "colo-compare,id=comp0,primary_in=compare0-0,secondary_in=compare1,outdev=compare_out0,iothread=iothread1{header}"
            ),
        ),
    ];
    let client = |chardev: String| ("-chardev", chardev + ",reconnect=1");
    let secondary = [
        client(remote("red0", 9003)),
        client(remote("red1", 9004)),
        ("-object", format!("filter-redirector,id=f1,netdev=net0,queue=tx,indev=red0{header}")),
        ("-object", format!("filter-redirector,id=f2,netdev=net0,queue=rx,outdev=red1{header}")),
        ("-object", format!("filter-rewriter,id=rew0,netdev=net0,queue=all{header}")),
    ];
    let extras = |options: &[(&str, String)]| Extras {
        arguments: options.iter().flat_map(|(name, value)| [(*name).to_owned(), value.clone()]).collect(),
        offloads,
        ..Extras::default()
    };
    Setup { primary: extras(&primary), secondary: extras(&secondary), ..Setup::default() }
}
