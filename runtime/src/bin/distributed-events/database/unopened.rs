//! Why SQLite can't open a file, for which it has one word (SQLITE_CANTOPEN), and what to do about each.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;

/// What is wrong with the file of a URL, where that is what the error is about.
pub(super) fn reason(url: &str, error: &sqlx::Error) -> Option<String> {
    const CANTOPEN: i32 = 14;
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    // The low byte of an extended code is the plain one.
    if code & 0xff != CANTOPEN {
        return None;
    }
    let options: SqliteConnectOptions = url.parse().ok()?;
    let creates = url.split_once('?').is_some_and(|(_, query)| query.contains("mode=rwc"));
    Some(of(options.get_filename(), creates))
}

/// As far as the file system tells: it may have changed since.
fn of(path: &Path, creates: bool) -> String {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => "there is a folder in its place: name the file in it".to_owned(),
        Ok(found) if !found.is_file() => {
            "what is there is no file: name the file of the database".to_owned()
        }
        Ok(_) => "the file is there, and this user may not open it: run this as the user it belongs to, or change its \
                  permissions"
            .to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => missing(path, creates),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            "this user may not look into its folder: run this as the user it belongs to, or change the folder's permissions"
                .to_owned()
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            "a part of its path is a file and no folder: mend the path".to_owned()
        }
        Err(error) => format!("the path can't be followed ({error}): mend it"),
    }
}

fn missing(path: &Path, creates: bool) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.exists() {
        let folder = folder.display().to_string().escape_debug().to_string();
        return format!("its folder {folder} does not exist: mend the path, or make the folder");
    }
    if creates {
        return "this user may not create a file in its folder: run this as the user it belongs to, or change the folder's \
                permissions"
            .to_owned();
    }
    "there is no such file: mend the path, or let it be created with `distributed-events migrate --create`"
        .to_owned()
}
