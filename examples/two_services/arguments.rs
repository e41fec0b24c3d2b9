//! The program's arguments.

use std::path::PathBuf;

use crate::Failure;

pub(crate) const HELP: &str = "\
Usage: two_services [--input FILE] [--data DIRECTORY] [--postgres URL] [--patience SECONDS]
                    [--programs DIRECTORY]

  --input FILE          the orders, one JSON object a line, instead of a hundred of the quickstart's
  --data DIRECTORY      where everything is kept: the services' databases, the emulators' messages (./two-services-data)
  --postgres URL        keeps ordering's database on this PostgreSQL server, in a database that is made there
  --patience SECONDS    gives up, and says what is left to be done, when nothing has moved for so long (90)
  --programs DIRECTORY  takes the programs from a directory such as target/debug instead of building them
  -h, --help            this text

Exit status: 0 reconciled, 1 not reconciled or not finished, 2 it could not begin.
";

pub(crate) struct Arguments {
    pub(crate) input: Option<PathBuf>,
    pub(crate) data: PathBuf,
    pub(crate) postgres: Option<String>,
    pub(crate) patience: String,
    pub(crate) programs: Option<PathBuf>,
}

impl Arguments {
    /// Reads them; none where help was asked for.
    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> Result<Option<Self>, Failure> {
        let (mut input, mut data, mut postgres, mut patience, mut programs) = (None, None, None, None, None);
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let place = match word.as_str() {
                "-h" | "--help" => return Ok(None),
                "--input" => &mut input,
                "--data" => &mut data,
                "--postgres" => &mut postgres,
                "--patience" => &mut patience,
                "--programs" => &mut programs,
                _ => return Err(format!("unknown argument {word}; {HELP}").into()),
            };
            *place = Some(words.next().ok_or_else(|| format!("{word} needs a value; {HELP}"))?);
        }
        if let Some(path) = &input {
            std::fs::File::open(path).map_err(|error| format!("{path} can't be read: {error}"))?;
        }
        let patience = patience.unwrap_or_else(|| "90".to_owned());
        patience.parse::<u32>().map_err(|_| format!("--patience: {patience} is no number of seconds"))?;
        let data = PathBuf::from(data.unwrap_or_else(|| "two-services-data".to_owned()));
        Ok(Some(Self {
            input: input.map(PathBuf::from),
            // Ordering's books on a server and those in a file are not the same, and neither are billing's beside them.
            data: if postgres.is_some() { data.join("postgres") } else { data },
            postgres,
            patience,
            programs: programs.map(PathBuf::from),
        }))
    }
}
