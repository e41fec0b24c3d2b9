//! Frames: a length, a number and a checksum before some bytes.

/// Where a frame may begin: looked for behind a broken one.
const MARK: [u8; 4] = *b"\xf5SB\xfa";
/// Mark, checksum, number and length.
const HEAD: usize = 4 + 4 + 8 + 8;

/// A frame that is intact.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// Where it begins.
    pub(super) at: usize,
    pub(super) payload: &'a [u8],
    end: usize,
}

pub(super) fn encode(number: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + payload.len());
    frame.extend_from_slice(&MARK);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&number.to_le_bytes());
    frame.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    frame.extend_from_slice(payload);
    let checksum = crc32fast::hash(&frame[8..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    frame
}

/// Reads the frame that begins there, if it is whole and has that number or a later one.
fn read(bytes: &[u8], at: usize, number: u64, exactly: bool) -> Option<Frame<'_>> {
    let head = bytes.get(at..at + HEAD)?;
    let word = |from: usize| Some(u64::from_le_bytes(head.get(from..from + 8)?.try_into().ok()?));
    let checksum = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?);
    let (found, length) = (word(8)?, usize::try_from(word(16)?).ok()?);
    let end = at.checked_add(HEAD)?.checked_add(length)?;
    let fits = if exactly { found == number } else { found >= number };
    if head[..4] != MARK || !fits || crc32fast::hash(bytes.get(at + 8..end)?) != checksum {
        return None;
    }
    Some(Frame { at, payload: &bytes[at + HEAD..end], end })
}

/// The frames of a file, up to its end or to the first that is broken.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    number: u64,
}

impl<'a> Frames<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, number: 0 }
    }

    pub(super) fn next(&mut self) -> Option<Frame<'a>> {
        let frame = read(self.bytes, self.at, self.number, true)?;
        self.at = frame.end;
        self.number += 1;
        Some(frame)
    }

    /// Where the next frame would begin.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Where behind here an intact later frame begins.
    pub(super) fn intact_behind_the_break(&self) -> Option<usize> {
        let rest = self.bytes.get(self.at + 1..)?;
        let marks = rest.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
        let mut places = marks.map(|(offset, _)| self.at + 1 + offset);
        places.find(|at| read(self.bytes, *at, self.number, false).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_up_to_the_break() {
        let whole: Vec<u8> =
            (0..3).flat_map(|number| encode(number, format!("frame {number}").as_bytes())).collect();
        let length = whole.len() / 3;
        let count = |bytes: &[u8]| {
            let mut frames = Frames::new(bytes);
            let mut count = 0;
            while let Some(frame) = frames.next() {
                assert_eq!(frame.payload, format!("frame {count}").as_bytes());
                count += 1;
            }
            (count, frames.intact_behind_the_break())
        };
        for cut in 0..=whole.len() {
            assert_eq!(count(&whole[..cut]), (cut / length, None), "cut at {cut}");
        }
        for broken in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[broken] ^= 1;
            let behind = (broken / length < 2).then_some((broken / length + 1) * length);
            assert_eq!(count(&bytes), (broken / length, behind), "broken at {broken}");
        }
    }
}
