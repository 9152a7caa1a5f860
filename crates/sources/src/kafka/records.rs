//! Records as brokers store them: batches of version 2, packed in whatever way their producers wanted.

use super::wire::{Malformed, Reader};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use std::io::{self, Read};
use thiserror::Error;

/// Bytes of a batch, unpacked. Those of several batches together are no more by one batch at most.
const UNPACKED_MAX: u64 = 16 << 20;
/// Of a batch's attributes.
const PACKING: i16 = 0b111;
const LOG_TIME: i16 = 0b1000;
const CONTROL: i16 = 0b10_0000;

/// Why records could not be read.
#[derive(Debug, Error)]
pub enum RecordsError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the topic has records of a form that brokers older than 0.11 made: they cannot be read")]
    Old,
    #[error("records are packed in a way that is not known ({0})")]
    Packing(i16),
    #[error("records could not be unpacked: {0}")]
    Unpack(#[source] io::Error),
}

/// A record and where it stands.
#[derive(Debug, PartialEq)]
pub struct Record {
    pub offset: i64,
    /// As functions get it, but for its topic and partition.
    pub value: Value,
    /// Bytes of it, as the broker keeps it.
    pub length: usize,
}

/// What a broker sent of a partition: its records from `from` on, up to `most` of them, and the offset at which to go on.
/// Few bytes may hold many when they are unpacked: what is too much for once is left for the next time.
pub fn read(bytes: &[u8], from: i64, most: usize) -> Result<(Vec<Record>, i64), RecordsError> {
    let (mut reader, mut next) = (Reader(bytes), from);
    let mut found = Found { from, most, records: Vec::new(), unpacked: 0 };
    // The last batch may be cut off: it is read from its beginning the next time.
    while found.has_room()
        && let Some(batch) = batch(&mut reader)
    {
        next = next.max(found.read(batch)?);
    }
    Ok((found.records, next))
}

struct Found {
    from: i64,
    most: usize,
    records: Vec<Record>,
    /// Bytes of the batches so far.
    unpacked: u64,
}

/// The next batch: its first offset, and what is behind its length.
fn batch<'a>(reader: &mut Reader<'a>) -> Option<(i64, Reader<'a>)> {
    let base = reader.i64().ok()?;
    let length = usize::try_from(reader.i32().ok()?).ok()?;
    Some((base, Reader(reader.take(length).ok()?)))
}

impl Found {
    fn has_room(&self) -> bool {
        self.records.len() < self.most && self.unpacked < UNPACKED_MAX
    }

    /// Reads a batch, as far as records are wanted: the offset at which to go on.
    fn read(&mut self, (base, mut batch): (i64, Reader<'_>)) -> Result<i64, RecordsError> {
        batch.i32()?;
        if batch.i8()? != 2 {
            return Err(RecordsError::Old);
        }
        batch.i32()?;
        let attributes = batch.i16()?;
        let last = base.checked_add(i64::from(batch.i32()?)).ok_or(Malformed)?;
        let times = (batch.i64()?, batch.i64()?);
        // Producer, its epoch, its sequence.
        batch.take(8 + 2 + 4)?;
        let count = batch.i32()?;
        if attributes & CONTROL == 0 {
            let unpacked = unpack(attributes & PACKING, batch.0)?;
            self.unpacked += unpacked.len() as u64;
            let mut reader = Reader(&unpacked);
            for _ in 0..count {
                if self.records.len() >= self.most {
                    return Ok(self.records.last().map_or(self.from, |record| record.offset + 1));
                }
                let length = usize::try_from(reader.varint()?).map_err(|_| Malformed)?;
                self.records.extend(record(base, (attributes, times), Reader(reader.take(length)?), self.from)?);
            }
        }
        last.checked_add(1).ok_or(RecordsError::Malformed(Malformed))
    }
}

/// One record of a batch, unless it is from before `from`.
fn record(
    base: i64,
    (attributes, (first_time, last_time)): (i16, (i64, i64)),
    mut record: Reader<'_>,
    from: i64,
) -> Result<Option<Record>, Malformed> {
    let length = record.0.len();
    record.i8()?;
    let time = first_time.wrapping_add(record.varint()?);
    // Behind it there is another offset, always.
    let offset = base.checked_add(record.varint()?).filter(|offset| *offset < i64::MAX).ok_or(Malformed)?;
    let (time, kind) = match attributes & LOG_TIME {
        0 => (time, "CREATE_TIME"),
        _ => (last_time, "LOG_APPEND_TIME"),
    };
    if offset < from {
        return Ok(None);
    }
    Ok(Some(Record { offset, length, value: shape(offset, time, kind, &mut record)? }))
}

/// The rest of a record, as functions get it.
fn shape(offset: i64, time: i64, kind: &str, record: &mut Reader<'_>) -> Result<Value, Malformed> {
    let encoded = |bytes: Option<&[u8]>| bytes.map(|bytes| BASE64.encode(bytes));
    let (key, value) = (encoded(record.varbytes()?), encoded(record.varbytes()?));
    let count = record.varint()?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = String::from_utf8_lossy(record.varbytes()?.unwrap_or_default()).into_owned();
        let bytes = record.varbytes()?.unwrap_or_default();
        headers.push(json!({ (name): bytes }));
    }
    let mut shape = json!({ "offset": offset, "timestamp": time, "timestampType": kind });
    if let Some(key) = key {
        shape["key"] = key.into();
    }
    if let Some(value) = value {
        shape["value"] = value.into();
    }
    shape["headers"] = headers.into();
    Ok(shape)
}

fn unpack(packing: i16, bytes: &[u8]) -> Result<Vec<u8>, RecordsError> {
    let mut unpacked = Vec::new();
    let mut read = |from: &mut dyn Read| -> io::Result<()> {
        from.take(UNPACKED_MAX + 1).read_to_end(&mut unpacked)?;
        let fits = unpacked.len() as u64 <= UNPACKED_MAX;
        if fits { Ok(()) } else { Err(io::Error::new(io::ErrorKind::FileTooLarge, "a batch is too large unpacked")) }
    };
    let done = match packing {
        0 => return Ok(bytes.to_vec()),
        1 => read(&mut flate2::read::GzDecoder::new(bytes)),
        2 => return snappy(bytes),
        3 => read(&mut lz4_flex::frame::FrameDecoder::new(bytes)),
        4 => match ruzstd::decoding::StreamingDecoder::new(bytes) {
            Ok(mut decoder) => read(&mut decoder),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
        },
        other => return Err(RecordsError::Packing(other)),
    };
    done.map_err(RecordsError::Unpack)?;
    Ok(unpacked)
}

/// Snappy as it is, or in the frame that Java's library puts around it: blocks with their lengths.
fn snappy(bytes: &[u8]) -> Result<Vec<u8>, RecordsError> {
    const FRAME: &[u8] = b"\x82SNAPPY\0";
    let Some(framed) = bytes.strip_prefix(FRAME) else { return block(bytes) };
    let (mut reader, mut unpacked) = (Reader(framed), Vec::new());
    // Two versions.
    reader.take(8)?;
    while !reader.0.is_empty() {
        unpacked.extend(block(reader.bytes()?)?);
        if unpacked.len() as u64 > UNPACKED_MAX {
            return Err(Malformed.into());
        }
    }
    Ok(unpacked)
}

fn block(bytes: &[u8]) -> Result<Vec<u8>, RecordsError> {
    let unpack = |error: snap::Error| RecordsError::Unpack(io::Error::new(io::ErrorKind::InvalidData, error));
    let length = snap::raw::decompress_len(bytes).map_err(unpack)?;
    if length as u64 > UNPACKED_MAX {
        return Err(Malformed.into());
    }
    snap::raw::Decoder::new().decompress_vec(bytes).map_err(unpack)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number as records have it; small ones only.
    fn varint(number: i64) -> u8 {
        ((number << 1) ^ (number >> 63)) as u8
    }

    /// One record: key "k", this value, a header "h" of one byte.
    fn packed(delta: i64, value: &str) -> Vec<u8> {
        let mut body = vec![0, varint(5), varint(delta), varint(1), b'k', varint(value.len() as i64)];
        body.extend(value.as_bytes());
        body.extend([varint(1), varint(1), b'h', varint(1), 7]);
        [vec![varint(body.len() as i64)], body].concat()
    }

    fn batch(base: i64, attributes: i16, count: i32, records: &[u8]) -> Vec<u8> {
        let mut body = vec![0; 4];
        body.push(2);
        body.extend([0; 4]);
        body.extend(attributes.to_be_bytes());
        body.extend((count - 1).to_be_bytes());
        body.extend(1000i64.to_be_bytes());
        body.extend(2000i64.to_be_bytes());
        body.extend([0; 14]);
        body.extend(count.to_be_bytes());
        body.extend(records);
        [&base.to_be_bytes()[..], &(body.len() as i32).to_be_bytes(), &body].concat()
    }

    #[test]
    fn batches_are_read_from_an_offset_on() {
        let two = [packed(0, "a"), packed(1, "b")].concat();
        let mut bytes = batch(10, 0, 2, &two);
        // A control batch has an offset and nothing for functions; what is cut off waits.
        bytes.extend(batch(12, CONTROL, 1, &packed(0, "x")));
        bytes.extend(&batch(13, 0, 1, &packed(0, "c"))[..40]);
        let (records, next) = read(&bytes, 11, 9).unwrap();
        let expected = json!({
            "offset": 11, "timestamp": 1005, "timestampType": "CREATE_TIME", "key": "aw==", "value": "Yg==",
            "headers": [{ "h": [7] }],
        });
        assert_eq!((records, next), (vec![Record { offset: 11, value: expected, length: 12 }], 13));
        let (records, _) = read(&batch(0, LOG_TIME, 1, &packed(0, "a")), 0, 9).unwrap();
        assert_eq!(
            (&records[0].value["timestamp"], &records[0].value["timestampType"]),
            (&json!(2000), &json!("LOG_APPEND_TIME"))
        );
    }

    #[test]
    fn no_more_is_unpacked_than_is_wanted() {
        let three = [packed(0, "a"), packed(1, "b"), packed(2, "c")].concat();
        let (records, next) = read(&batch(5, 0, 3, &three), 5, 2).unwrap();
        assert_eq!((records.len(), next), (2, 7));
        // What packs well comes a batch at a time.
        let mut padded = packed(0, "a");
        padded.resize(UNPACKED_MAX as usize, 0);
        let raw = snap::raw::Encoder::new().compress_vec(&padded).unwrap();
        let (records, next) = read(&[batch(0, 2, 1, &raw), batch(1, 0, 1, &packed(0, "b"))].concat(), 0, 9).unwrap();
        assert_eq!((records.len(), next), (1, 1));
    }

    #[test]
    fn every_packing_is_unpacked() {
        use std::io::Write;
        let plain = packed(0, "packed");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&plain).unwrap();
        let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        let framed = [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", &(raw.len() as i32).to_be_bytes()[..], &raw].concat();
        let zstd = ruzstd::encoding::compress_to_vec(&plain[..], ruzstd::encoding::CompressionLevel::Fastest);
        let packed = [(1, gzip.finish().unwrap()), (2, raw), (2, framed), (3, lz4.finish().unwrap()), (4, zstd)];
        for (packing, bytes) in packed {
            let (records, _) = read(&batch(0, packing, 1, &bytes), 0, 9).unwrap();
            assert_eq!(records[0].value["value"], "cGFja2Vk", "{packing}");
        }
    }

    #[test]
    fn nonsense_is_an_error_and_nothing_worse() {
        let whole = batch(0, 0, 1, &packed(0, "a"));
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut wrong = whole.clone();
                wrong[at] = byte;
                let _ = read(&wrong, 0, 9);
                let _ = read(&wrong[..at], 0, 9);
            }
        }
        for packing in 1..8 {
            assert!(read(&batch(0, packing, 1, b"\xff\xff\xff\xff\x0fnonsense"), 0, 9).is_err(), "{packing}");
        }
    }
}
