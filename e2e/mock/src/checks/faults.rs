//! Page faults of devices, which wait for an answer.

use crate::nest::Nest;
use anyhow::{Result, ensure};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::size_of;

/// Words of a fault (`struct iommu_hwpt_pgfault`).
const WORDS: usize = 10;
const DEVICE: usize = 1;
const GROUP: usize = 3;
const PERMISSIONS: usize = 4;
const ADDRESS: usize = 6;
const COOKIE: usize = 9;

/// A fault names the device, what it wanted, and a cookie; each is answered once.
pub(super) fn faults() -> Result<String> {
    let nest = Nest::new(&[7])?;
    let (host, device) = (&nest.host, nest.devices[0]);
    let (number, mut queue) = host.faults()?;
    let table = host.nested(device, nest.viommu, Some(number))?;
    host.attach(device, table)?;
    for group in [5, 6] {
        host.raise_fault(device, group, 0xDEAD_B000)?;
    }
    let faults = read(&mut queue)?;
    ensure!(faults.len() == 2, "{faults:x?}");
    for (fault, group) in faults.iter().zip([5, 6]) {
        let seen = (
            fault[DEVICE],
            fault[GROUP],
            fault[PERMISSIONS],
            fault[ADDRESS],
        );
        ensure!(seen == (device.id, group, 1, 0xDEAD_B000), "{fault:x?}");
    }
    let cookies = [faults[0][COOKIE], faults[1][COOKIE]];
    ensure!(cookies[0] != cookies[1], "one cookie twice");
    answer(&mut queue, cookies[1], 0)?;
    answer(&mut queue, cookies[0], 1)?;
    ensure!(answer(&mut queue, cookies[0], 0).is_err(), "answered twice");
    ensure!(read(&mut queue)?.is_empty(), "a fault more than there was");
    host.raise_fault(device, 9, 0xDEAD_B000)?;
    let third = read(&mut queue)?;
    ensure!(
        answer(&mut queue, third[0][COOKIE], 2).is_err(),
        "an answer that there is not"
    );
    Ok("3 faults, answers out of order".into())
}

fn read(queue: &mut File) -> Result<Vec<[u32; WORDS]>> {
    let mut bytes = [0; size_of::<[u32; WORDS]>() * 4];
    let length = queue.read(&mut bytes)?;
    let faults = bytes[..length].chunks_exact(size_of::<[u32; WORDS]>());
    let word = |fault: &[u8], at: usize| {
        let at = at * 4;
        u32::from_ne_bytes([fault[at], fault[at + 1], fault[at + 2], fault[at + 3]])
    };
    Ok(faults
        .map(|fault| std::array::from_fn(|at| word(fault, at)))
        .collect())
}

fn answer(queue: &mut File, cookie: u32, code: u32) -> std::io::Result<()> {
    let mut response = [0; 8];
    response[..4].copy_from_slice(&cookie.to_ne_bytes());
    response[4..].copy_from_slice(&code.to_ne_bytes());
    let written = queue.write(&response)?;
    match written {
        8 => Ok(()),
        _ => Err(std::io::Error::other("cut off")),
    }
}
