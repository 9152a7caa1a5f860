//! echo: every item of every input set, in the output set `out`, with its name and key.
#![no_std]
#![no_main]

use lichen_guest::{Failure, Inputs, Outputs};

lichen_guest::function!(echo);

fn echo<'a>(inputs: &'a Inputs, outputs: &mut Outputs<'a>) -> Result<(), Failure> {
    for item in inputs.sets().flat_map(|set| set.items()) {
        let item = item?;
        outputs.put("out", item.name, item.key, item.data)?;
    }
    Ok(())
}
