//! A pure function: every item of the set `in`, in capital letters, under its own name and key in the set `out`.
#![no_std]
#![no_main]

use lichen_guest::{Failure, Inputs, Outputs};

lichen_guest::function!(shout);

fn shout<'a>(inputs: &'a Inputs, outputs: &mut Outputs<'a>) -> Result<(), Failure> {
    for item in inputs.set("in")?.items() {
        let item = item?;
        outputs.put("out", item.name, item.key, item.data.to_ascii_uppercase())?;
    }
    Ok(())
}
