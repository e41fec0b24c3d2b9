//! Which database, and its tables.

use crate::program::Program;
use crate::rows::Rows;

#[test]
fn a_url_is_said_or_configured_or_in_the_environment() {
    let program = Program::new();
    let config = program.write("c.toml", "[database]\nurl = \"sqlite:configured.db\"\n");
    let asked = |arguments: &[&str]| program.fails(1, arguments);
    // The environment's is there, the others are not, and the error says which was looked for.
    program.ok(&["status"]);
    assert!(asked(&["--config", &config, "status"]).contains("sqlite:configured.db"));
    let said = asked(&["--config", &config, "--database-url", "sqlite:said.db", "status"]);
    assert_eq!(
        said,
        "error: there is no database sqlite:said.db: there is no such file: mend the path, or let it be created with \
         `distributed-events migrate --create`\n"
    );
    let nothing = program.command(&["status"]).env_remove("DATABASE_URL").output().unwrap();
    let said = crate::program::said(&nothing);
    assert_eq!(said.status, 2);
    assert!(
        said.error.contains("--database-url URL") && said.error.contains("DATABASE_URL"),
        "{}",
        said.error
    );
}

#[test]
fn what_is_no_database_is_told_without_repeating_it() {
    let program = Program::new();
    let error = program.fails(2, &["--database-url", "Server=db;Password=s3cret", "status"]);
    assert!(
        error.contains("--database-url is not the URL of a database") && !error.contains("s3cret"),
        "{error}"
    );
    let error = program.fails(2, &["--database-url", "oracle://scott:s3cret@db", "status"]);
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
#[cfg(not(feature = "postgres"))]
fn a_database_that_was_not_built_in_is_named_with_its_feature() {
    let program = Program::new();
    let error = program.fails(2, &["--database-url", "postgres://shop:s3cret@db/shop", "status"]);
    assert_eq!(
        error,
        "error: this binary was built without the feature `postgres`: build one that has it, for example with `cargo install \
         distributed-events --features cli,postgres`\n"
    );
}

#[test]
#[cfg(feature = "postgres")]
fn a_server_that_is_not_there_is_told_without_the_password() {
    let program = Program::new();
    // Nobody listens on this port.
    let error = program.fails(1, &["--database-url", "postgres://shop:s3cret@127.0.0.1:1/shop", "status"]);
    assert!(error.contains("the database postgres://shop@127.0.0.1:1/shop can't be reached"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn missing_tables_are_told_with_the_command_that_makes_them() {
    let program = Program::without_tables();
    std::fs::write(program.path("shop.db"), "").unwrap();
    for command in [
        &["status"][..],
        &["outbox", "list"],
        &["inbox", "show", "00000000-0000-4000-8000-000000000000"],
        &["inbox", "requeue", "--all", "--yes"],
        &["outbox", "resend", "--since", "1h", "--yes"],
        &["inbox", "replay", "--subscription", "billing", "--since", "1h", "--yes"],
        &["purge", "--yes"],
    ] {
        let error = program.fails(1, command);
        assert!(error.contains("are missing in sqlite:"), "{command:?}: {error}");
        assert!(error.contains("create them with `distributed-events migrate`"), "{command:?}: {error}");
    }
}

#[test]
fn tables_are_made_once_and_any_number_of_times() {
    let program = Program::without_tables();
    program.fails(1, &["migrate"]);
    let first = program.ok(&["migrate", "--create"]);
    assert_eq!(first, format!("the tables of {} are up to date\n", program.url()));
    assert_eq!(program.ok(&["migrate"]), first);
    assert_eq!(program.json(&["migrate"])["migrated"], program.url());
}

#[tokio::test]
async fn printed_sql_makes_the_same_tables() {
    let program = Program::new();
    let printed = Program::without_tables();
    std::fs::write(printed.path("shop.db"), "").unwrap();
    let sql = printed.ok(&["migrate", "--print"]);
    assert_eq!(sql, printed.ok(&["migrate", "--print", "--dialect", "sqlite"]), "no database is asked");
    let json = printed.json(&["migrate", "--print"]);
    assert_eq!(json["database"], "sqlite");
    assert_eq!(json["sql"].as_str().map(str::trim_end), Some(sql.trim_end()));
    let (own, others) = (Rows::of(&program).await, Rows::of(&printed).await);
    let mut tx = others.pool.begin().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let schema =
        "SELECT group_concat(coalesce(sql, ''), ';') FROM (SELECT sql FROM sqlite_schema ORDER BY name)";
    let mut schemas = Vec::new();
    for rows in [&own, &others] {
        schemas.push(sqlx::query_scalar::<_, String>(schema).fetch_one(&rows.pool).await.unwrap());
    }
    assert_eq!(schemas[0], schemas[1]);
    // The library takes them for its own, and has nothing to add.
    printed.ok(&["migrate"]);
    printed.ok(&["status"]);
}

#[test]
fn a_file_that_cannot_be_opened_is_told_with_its_reason() {
    let program = Program::new();
    std::fs::create_dir(program.path("folder")).unwrap();
    program.write("file", "");
    for (url, command, told) in [
        ("sqlite:folder", &["status"][..], "there is a folder in its place: name the file in it"),
        ("sqlite:folder", &["migrate", "--create"], "there is a folder in its place"),
        (
            "sqlite:not-there/shop.db",
            &["status"],
            "its folder not-there does not exist: mend the path, or make",
        ),
        ("sqlite:not-there/shop.db", &["migrate", "--create"], "its folder not-there does not exist"),
        ("sqlite:file/shop.db", &["status"], "a part of its path is a file and no folder: mend the path"),
        ("sqlite:folder/shop.db", &["status"], "there is no such file: mend the path, or let it be created"),
    ] {
        let error = program.fails(1, &[&["--database-url", url], command].concat());
        assert!(error.contains(told), "{url} {command:?}: {error}");
    }
}

/// As somebody who may not: nothing is forbidden to root.
#[test]
#[cfg(unix)]
fn a_file_that_may_not_be_opened_is_told_with_what_to_change() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::process::CommandExt as _;
    let program = Program::new();
    let allow = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(program.folder.path(), 0o755);
    std::fs::create_dir(program.path("closed")).unwrap();
    allow(&program.path("shop.db"), 0o000);
    allow(&program.path("closed"), 0o000);
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let binary = program.path("binary");
    if is_root {
        // Where it can be reached: the folder that it was built in may be open to its builder alone.
        std::fs::copy(env!("CARGO_BIN_EXE_distributed-events"), &binary).unwrap();
    }
    let fails = |url: &str, command: &[&str]| {
        let mut asked = program.command(command);
        if is_root {
            const NOBODY: u32 = 65_534;
            let mut other = std::process::Command::new(&binary);
            other.args(command).uid(NOBODY).gid(NOBODY).current_dir(program.folder.path());
            asked = other;
        }
        let said = crate::program::said(&asked.env("DATABASE_URL", url).output().unwrap());
        assert_eq!(said.status, 1, "{}{}", said.output, said.error);
        said.error
    };
    let error = fails(&program.url(), &["status"]);
    assert!(
        error.contains("the file is there, and this user may not open it: run this as the user"),
        "{error}"
    );
    let error = fails("sqlite:closed/shop.db", &["status"]);
    assert!(error.contains("this user may not look into its folder"), "{error}");
    allow(&program.path("closed"), 0o555);
    let error = fails("sqlite:closed/shop.db", &["migrate", "--create"]);
    assert!(error.contains("this user may not create a file in its folder"), "{error}");
    allow(&program.path("closed"), 0o755);
}
