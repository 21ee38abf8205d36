//! Bugs of peers that a whole frame shows.

use crate::world::*;
use smmu_core::StreamId;
use vcmdq::testing::commands::sync;
use vcmdq_iommufd::testing::Counting;

/// Row 7: the guest sends CFGI_CD before its STE is valid. That is no error, and later ones reach the host.
#[test]
fn law4_row7_cfgi_cd_before_the_ste_is_valid_is_no_error() {
    let mut world = World::new(1, 1, Counting::Converted);
    world.hosts[0].streams.idle(stream(0));
    world.hosts[0].kernel.unplug(stream(0).0);
    world.send(0, &[cfgi_cd(stream(0)), sync(), tlbi(1), sync()]);
    world.serve();
    assert_eq!((world.error(0), world.is_through(0)), (0, true));
    let host = &world.hosts[0];
    assert!(host.streams.closed().is_empty() && host.is_safe(1));
    assert_eq!(host.kernel.take_calls(), [1], "of the TLBI alone");

    let mut world = World::new(1, 1, Counting::Converted);
    world.send(0, &[cfgi_cd(stream(0)), sync()]);
    world.serve();
    assert_eq!(world.hosts[0].executed().len(), 1);
}

/// A stream that is not bound, or is another SMMU's, reaches no host that it is none of.
#[test]
fn law2_streams_reach_their_own_host_only() {
    let mut world = World::new(1, 2, Counting::Converted);
    let commands = [
        atc_inv(StreamId(0x99)),
        atc_inv(stream(1)),
        cfgi_cd(stream(1)),
        sync(),
    ];
    world.send(0, &commands);
    world.serve();
    assert_eq!((world.error(0), world.is_through(0)), (0, true));
    assert_eq!(world.hosts[0].executed().len(), 0);
    assert_eq!(world.hosts[1].executed().len(), 2);
    assert!(
        world
            .hosts
            .iter()
            .all(|host| host.streams.closed().is_empty())
    );
    assert_eq!(world.metrics().unbound, 1);
}

/// Windows of rings that wait at the same time are one call.
#[test]
fn law4_rings_that_wait_at_the_same_time_share_a_call() {
    for rings in [2, 4, 8, 16] {
        let mut world = World::new(rings, 1, Counting::Converted);
        for ring in 0..rings {
            world.send(ring, &[tlbi(0x1000 * ring as u64), sync()]);
        }
        world.serve();
        let metrics = world.metrics();
        assert_eq!((metrics.calls, metrics.syncs), (1, rings as u64));
        assert_eq!(world.hosts[0].kernel.take_calls(), [rings]);
    }
}
