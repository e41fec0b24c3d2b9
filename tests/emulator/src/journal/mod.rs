//! The journal: what makes a namespace survive its process.
//!
//! A directory holds a snapshot of the model and the inputs that came since, with their times. The model is pure, so
//! replaying the inputs restores it exactly. Inputs are written in frames, each with a checksum and a number; a frame
//! is begun when the one before is on the disk. So a broken frame at the end is what a crash tore, and nobody was told
//! of what it held; a broken frame with an intact one behind it is damage, and refused.

mod frame;
mod writer;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Input, Model, Time};
use frame::{Frame, Frames};

pub use writer::Progress;
pub(crate) use writer::Writer;

/// Raised whenever the model or its inputs change their shape.
const VERSION: u32 = 1;

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was tried with.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{}: another emulator is using this directory", .0.display())]
    InUse(PathBuf),
    /// It isn't what was written.
    #[error("{}: damaged at byte {at}: {what}. Move the directory away to start afresh", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// How it shows.
        what: String,
    },
    /// It was written by another version of the emulator.
    #[error("{}: written by another version of the emulator. Move the directory away to start afresh", .0.display())]
    OtherVersion(PathBuf),
}

/// What was found when a directory was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Inputs that were replayed.
    pub inputs: u64,
    /// Bytes at the end that a crash had torn: nobody was told of what they held.
    pub torn_bytes: u64,
}

/// The first frame of each file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    magic: [u8; 8],
    version: u32,
    generation: u64,
}

impl Header {
    fn new(generation: u64) -> Self {
        Self { magic: *b"SBEMULAT", version: VERSION, generation }
    }
}

/// An opened directory.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) model: Model,
    /// The time of the last input.
    pub(crate) time: Time,
    pub(crate) recovery: Recovery,
    pub(crate) writer: Writer,
}

fn snapshot_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("state-{generation:010}.snapshot"))
}

fn journal_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("inputs-{generation:010}.journal"))
}

/// Restores the model from a directory, or makes one with `fresh`; `restart` is what it then lives through. What is
/// there is compacted: a new snapshot and an empty journal take its place.
pub(crate) fn open(
    directory: &Path,
    fresh: impl FnOnce() -> Model,
    restart: impl FnOnce(&mut Model, Time) -> Time,
) -> Result<Opened, Error> {
    fs::create_dir_all(directory).map_err(failed(directory))?;
    let lock = lock(&directory.join("lock"))?;
    let newest = generations(directory)?.into_iter().max();
    let mut recovery = Recovery::default();
    let (mut model, mut time) = match newest {
        None => (fresh(), Time(0)),
        Some(generation) => {
            let (mut model, mut time) = read_snapshot(directory, generation)?;
            replay(directory, generation, &mut model, &mut time, &mut recovery)?;
            (model, time)
        }
    };
    time = time.max(restart(&mut model, time));
    let generation = newest.map_or(1, |generation| generation + 1);
    let journal = compact(directory, generation, &model, time)?;
    Ok(Opened {
        model,
        time,
        recovery,
        writer: Writer::start(journal, journal_path(directory, generation), lock),
    })
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Io { path, source }
}

fn lock(path: &Path) -> Result<File, Error> {
    let file = File::options().create(true).append(true).open(path).map_err(failed(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(path.parent().unwrap_or(path).to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(path)(error)),
    }
}

/// Numbers of the snapshots that are there. A snapshot gets its name when it is complete.
fn generations(directory: &Path) -> Result<Vec<u64>, Error> {
    let mut generations = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let name = entry.map_err(failed(directory))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("state-")?.strip_suffix(".snapshot"));
        generations.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    Ok(generations)
}

fn check_header(path: &Path, frame: Option<&Frame<'_>>, generation: u64) -> Result<(), Error> {
    let damaged = |what: &str| Err(Error::Damaged { path: path.to_owned(), at: 0, what: what.to_owned() });
    let Some(frame) = frame else { return damaged("it has no header") };
    let Ok(header) = postcard::from_bytes::<Header>(frame.payload) else {
        return damaged("its header is unreadable");
    };
    let expected = Header::new(generation);
    if header.magic != expected.magic || header.generation != expected.generation {
        return damaged("its header belongs to another file");
    }
    if header.version != VERSION {
        return Err(Error::OtherVersion(path.to_owned()));
    }
    Ok(())
}

fn read_snapshot(directory: &Path, generation: u64) -> Result<(Model, Time), Error> {
    let path = snapshot_path(directory, generation);
    let bytes = fs::read(&path).map_err(failed(&path))?;
    let mut frames = Frames::new(&bytes);
    check_header(&path, frames.next().as_ref(), generation)?;
    let damaged = |what: &str| Error::Damaged { path: path.clone(), at: 0, what: what.to_owned() };
    let frame = frames.next().ok_or_else(|| damaged("the snapshot does not match its checksum"))?;
    let (time, model) = postcard::from_bytes::<(Time, Model)>(frame.payload)
        .map_err(|error| damaged(&format!("the snapshot is unreadable: {error}")))?;
    Ok((model, time))
}

fn replay(
    directory: &Path,
    generation: u64,
    model: &mut Model,
    time: &mut Time,
    recovery: &mut Recovery,
) -> Result<(), Error> {
    let path = journal_path(directory, generation);
    let bytes = fs::read(&path).map_err(failed(&path))?;
    let mut frames = Frames::new(&bytes);
    check_header(&path, frames.next().as_ref(), generation)?;
    while let Some(frame) = frames.next() {
        let mut rest = frame.payload;
        while !rest.is_empty() {
            let ((at, input), behind) =
                postcard::take_from_bytes::<(Time, Input)>(rest).map_err(|error| {
                    let what = format!("an input is unreadable: {error}");
                    Error::Damaged { path: path.clone(), at: frame.at as u64, what }
                })?;
            model.apply(at, input);
            *time = (*time).max(at);
            recovery.inputs += 1;
            rest = behind;
        }
    }
    if let Some(behind) = frames.intact_behind_the_break() {
        let what = format!("an intact record stands behind it, at byte {behind}, so this is no torn end");
        return Err(Error::Damaged { path, at: frames.at() as u64, what });
    }
    recovery.torn_bytes = (bytes.len() - frames.at()) as u64;
    Ok(())
}

/// Writes the model as a new generation, which replaces all older ones.
fn compact(directory: &Path, generation: u64, model: &Model, time: Time) -> Result<File, Error> {
    let encoded = |value: Result<Vec<u8>, postcard::Error>, path: &Path| {
        value.map_err(|error| failed(path)(io::Error::other(error)))
    };
    let path = journal_path(directory, generation);
    let header = encoded(postcard::to_stdvec(&Header::new(generation)), &path)?;
    // The journal is there before the snapshot that it belongs to; without that nobody looks at it.
    let mut journal = File::create(&path).map_err(failed(&path))?;
    journal.write_all(&frame::encode(0, &header)).and_then(|()| journal.sync_all()).map_err(failed(&path))?;

    let final_path = snapshot_path(directory, generation);
    let path = final_path.with_extension("writing");
    let body = encoded(postcard::to_stdvec(&(time, model)), &path)?;
    let mut snapshot = File::create(&path).map_err(failed(&path))?;
    snapshot
        .write_all(&frame::encode(0, &header))
        .and_then(|()| snapshot.write_all(&frame::encode(1, &body)))
        .and_then(|()| snapshot.sync_all())
        .and_then(|()| fs::rename(&path, &final_path))
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(failed(&path))?;
    remove_others(directory, generation).map_err(failed(directory))?;
    Ok(journal)
}

fn remove_others(directory: &Path, generation: u64) -> io::Result<()> {
    let kept = [snapshot_path(directory, generation), journal_path(directory, generation)];
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let ours =
            matches!(path.extension().and_then(|e| e.to_str()), Some("snapshot" | "journal" | "writing"));
        if ours && !kept.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// One input as it stands in a frame.
pub(crate) fn encode_input(time: Time, input: &Input) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(&(time, input))
}
