//! Status lists: unpacking any bytes and reading any index does not panic and has a memory limit.
#![no_main]

use authctl::fuzzing::Statuses;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u64, &[u8])| {
    let (bits, index, packed) = input;
    if let Ok(statuses) = Statuses::unpack(u64::from(bits), packed) {
        let _ = (statuses.status(index), statuses.status(index % 4096));
    }
});
