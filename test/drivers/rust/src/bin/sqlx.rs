//! Runs what an application does with sqlx, with the driver's defaults. See lib.rs.
//!
//! sqlx prepares every query under a name (sqlx_s_1, ...) and keeps the last hundred, asks the catalogs for types that it
//! does not know, and pings a connection when it leaves the pool.

use std::time::Duration;

use futures_util::{future, TryStreamExt};
use sluice_test_drivers::{database_url, end, expect, unique, Fault};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::types::{Json, Uuid};
use sqlx::{Acquire, Connection, Executor, PgConnection, PgPool, Row};
use time::macros::datetime;

#[derive(Debug, Clone, PartialEq, sqlx::Type)]
#[sqlx(type_name = "sqlx_mood", rename_all = "lowercase")]
enum Mood {
    Happy,
    Sad,
}

fn expect_error<T>(what: &str, code: &str, result: Result<T, sqlx::Error>) -> Result<(), Fault> {
    let error = result.err().ok_or(format!("{what}: no error, want {code}"))?;
    let got = error.as_database_error().and_then(|e| e.code()).map(|c| c.into_owned());
    expect(&format!("{what} ({error})"), got.as_deref(), Some(code))
}

async fn types(pool: &PgPool, items: &str) -> Result<(), Fault> {
    let at = datetime!(2024-02-29 12:30:15.123456 UTC);
    let doc = serde_json::json!({"a": [1, null, "é"]});
    let raw: Vec<u8> = (0..=255).collect();
    let (numbers, uid, moods) = (vec![Some(1), None, Some(3)], Uuid::new_v4(), vec![Mood::Sad, Mood::Happy]);
    let price: sqlx::types::Decimal = "1234567890123456.123456789".parse()?;
    let inserted = sqlx::query(&format!("INSERT INTO {items} VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"))
        .bind(1).bind(1i64 << 62).bind("naïve ☃").bind(at).bind(Json(&doc)).bind(&raw).bind(&numbers).bind(uid).bind(true)
        .bind(None::<String>).bind(Mood::Happy).bind(&moods).bind(price).execute(pool).await?;
    expect("rows inserted", inserted.rows_affected(), 1)?;
    for _ in 0..8 {
        let row = sqlx::query(&format!("SELECT * FROM {items} WHERE id = $1")).bind(1).fetch_one(pool).await?;
        expect("ints", (row.get("id"), row.get("big")), (1, 1i64 << 62))?;
        expect("text", row.get("words"), "naïve ☃")?;
        expect("timestamptz", row.get::<time::OffsetDateTime, _>("at"), at)?;
        expect("jsonb", row.get::<serde_json::Value, _>("doc"), doc.clone())?;
        expect("bytea", row.get::<Vec<u8>, _>("raw"), raw.clone())?;
        expect("array", row.get::<Vec<Option<i32>>, _>("numbers"), numbers.clone())?;
        expect("uuid and boolean", (row.get("uid"), row.get("yes")), (uid, true))?;
        expect("null", row.get::<Option<String>, _>("nothing"), None)?;
        expect("enum", (row.get("mood"), row.get("moods")), (Mood::Happy, moods.clone()))?;
        expect("numeric", row.get::<sqlx::types::Decimal, _>("price"), price)?;
    }
    let large = "large ☃ ".repeat(300_000);
    let back: String = sqlx::query_scalar("SELECT $1::text").bind(&large).fetch_one(pool).await?;
    expect("large text there and back", back == large, true)
}

async fn transactions(pool: &PgPool, items: &str) -> Result<(), Fault> {
    let mut tx = pool.begin().await?;
    sqlx::query(&format!("INSERT INTO {items} (id, words) VALUES ($1, 'committed')")).bind(2).execute(&mut *tx).await?;
    let mut inner = tx.begin().await?; // a savepoint
    inner.execute(format!("DELETE FROM {items}").as_str()).await?;
    inner.rollback().await?;
    tx.commit().await?;
    let mut tx = pool.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
    tx.execute(format!("UPDATE {items} SET words = 'never' WHERE id = 2").as_str()).await?;
    drop(tx); // is rolled back before the connection's next use
    let words: String = sqlx::query_scalar(&format!("SELECT words FROM {items} WHERE id = $1")).bind(2).fetch_one(pool).await?;
    expect("after commit, savepoint and rollback", words.as_str(), "committed")
}

async fn prepared(pool: &PgPool) -> Result<(), Fault> {
    for n in 0..60 {
        let twice: i32 = sqlx::query_scalar("SELECT $1::int * 2").bind(n).fetch_one(pool).await?;
        expect("from the cache", twice, n * 2)?;
        let once: i32 = sqlx::query_scalar("SELECT $1::int * 3").bind(n).persistent(false).fetch_one(pool).await?;
        expect("not kept", once, n * 3)?;
    }
    let mut conn = pool.acquire().await?;
    for n in 0..150 { // more texts than the cache holds: the oldest are closed
        let sum: i32 = sqlx::query_scalar(&format!("SELECT $1::int + {n}")).bind(1).fetch_one(&mut *conn).await?;
        expect("many texts", sum, n + 1)?;
    }
    conn.clear_cached_statements().await?;
    let sum: i32 = sqlx::query_scalar("SELECT $1::int + 7").bind(1).fetch_one(&mut *conn).await?;
    expect("after the cache was cleared", sum, 8)
}

async fn errors(pool: &PgPool, items: &str) -> Result<(), Fault> {
    let insert = format!("INSERT INTO {items} (id) VALUES ($1)");
    expect_error("unique violation", "23505", sqlx::query(&insert).bind(1).execute(pool).await)?;
    expect_error("syntax error", "42601", sqlx::query("SELEC 1").execute(pool).await)?;
    let streamed = sqlx::query("SELECT 1 / (5000 - n) FROM generate_series(1, $1::int) n").bind(10000).fetch_all(pool).await;
    expect_error("error while rows stream", "22012", streamed)?;
    let mut tx = pool.begin().await?;
    expect_error("error in a transaction", "22012", sqlx::query("SELECT 1 / $1::int").bind(0).execute(&mut *tx).await)?;
    expect_error("in a failed transaction", "25P02", sqlx::query("SELECT 1").execute(&mut *tx).await)?;
    tx.rollback().await?;
    let word: String = sqlx::query_scalar("SELECT $1::text").bind("well").fetch_one(pool).await?;
    expect("after the errors", word.as_str(), "well")?;
    let several = sqlx::raw_sql("SELECT 1; SELECT 2").fetch_all(pool).await?;
    expect("several statements at once", several.len(), 2)?;
    let rows: Vec<i32> = sqlx::query_scalar::<_, i32>("SELECT generate_series(1, $1)").bind(500).fetch(pool).try_collect().await?;
    expect("row by row", rows.len(), 500)?;
    let mut left = sqlx::query("SELECT generate_series(1, $1)").bind(100_000).fetch(pool);
    expect("first row", left.try_next().await?.map(|row| row.get(0)), Some(1))?;
    drop(left); // the other rows are read before the connection's next use
    let word: String = sqlx::query_scalar("SELECT $1::text").bind("on").fetch_one(pool).await?;
    expect("after rows that nobody read", word.as_str(), "on")
}

async fn copying(pool: &PgPool, items: &str) -> Result<(), Fault> {
    let lines: String = (0..20000).map(|n| format!("{}\trow\\t{n}\n", 1000 + n)).collect();
    let mut conn = pool.acquire().await?;
    let mut copy = conn.copy_in_raw(&format!("COPY {items} (id, words) FROM STDIN")).await?;
    copy.send(lines.as_bytes()).await?;
    expect("rows copied in", copy.finish().await?, 20000)?;
    let out = conn.copy_out_raw(&format!("COPY (SELECT id, words FROM {items} WHERE id >= 1000 ORDER BY id) TO STDOUT")).await?;
    let chunks: Vec<_> = out.try_collect().await?;
    expect("the copy", chunks.concat() == lines.into_bytes(), true)?;
    let mut copy = conn.copy_in_raw(&format!("COPY {items} (id) FROM STDIN")).await?;
    copy.send(&b"not a number\n"[..]).await?;
    expect_error("error in copy", "22P02", copy.finish().await)?;
    let copy = conn.copy_in_raw(&format!("COPY {items} (id) FROM STDIN")).await?;
    copy.abort("the application gives up").await?;
    let count: i64 = sqlx::query_scalar(&format!("SELECT count(*) FROM {items} WHERE id >= $1")).bind(1000).fetch_one(&mut *conn).await?;
    expect("after the copies", count, 20000)
}

/// sqlx has no cancel: it closes the connection of a query that is dropped. pg_cancel_backend is not for clients of a
/// pooler; a statement's own timeout is.
async fn give_up(pool: &PgPool) -> Result<(), Fault> {
    let slept = tokio::time::timeout(Duration::from_millis(200), sqlx::query("SELECT pg_sleep(60)").execute(&mut PgConnection::connect(&database_url()?).await?)).await;
    expect("gave up", slept.is_err(), true)?;
    let mut tx = pool.begin().await?;
    tx.execute("SET LOCAL statement_timeout = 100").await?;
    expect_error("statement_timeout", "57014", sqlx::query("SELECT pg_sleep(60)").execute(&mut *tx).await)?;
    tx.rollback().await?;
    let word: String = sqlx::query_scalar("SELECT 'alive'").fetch_one(pool).await?;
    expect("after it", word.as_str(), "alive")
}

/// The names of statements mean something else on each connection.
async fn two_connections(url: &str) -> Result<(), Fault> {
    let (mut first, mut second) = (PgConnection::connect(url).await?, PgConnection::connect(url).await?);
    for n in 0..60 {
        let got: i32 = sqlx::query_scalar("SELECT $1::int * 3").bind(n).fetch_one(&mut first).await?;
        expect("first by turns", got, n * 3)?;
        let got: String = sqlx::query_scalar("SELECT 'second ' || $1::int").bind(n).fetch_one(&mut second).await?;
        expect("second by turns", got, format!("second {n}"))?;
    }
    first.close().await?;
    Ok(second.close().await?)
}

async fn at_once(pool: &PgPool) -> Result<(), Fault> {
    let asked = (0..200).map(|n| async move {
        let mut tx = pool.begin().await?;
        let got: i32 = sqlx::query_scalar(&format!("SELECT $1::int + {}", n % 7)).bind(n).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        expect("at once", got, n + n % 7)
    });
    future::try_join_all(asked).await.map(|_| ())
}

async fn listening(pool: &PgPool) -> Result<(), Fault> {
    let channel = unique("sqlx");
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(&channel).await?;
    sqlx::query("SELECT pg_notify($1, 'hello')").bind(&channel).execute(pool).await?;
    let heard = tokio::time::timeout(Duration::from_secs(60), listener.recv()).await??;
    expect("notification", (heard.channel(), heard.payload()), (channel.as_str(), "hello"))
}

/// The migrator holds an advisory lock while it works.
async fn migrations(pool: &PgPool, items: &str) -> Result<(), Fault> {
    let migration = |version, sql: String| Migration::new(version, "change".into(), MigrationType::Simple, sql.into(), false);
    let all = vec![
        migration(1, "CREATE TYPE sqlx_mood AS ENUM ('happy', 'sad')".into()),
        migration(2, format!("CREATE TABLE {items} (id int PRIMARY KEY, big bigint, words text, at timestamptz, doc jsonb, raw bytea,
            numbers int[], uid uuid, yes boolean, nothing text, mood sqlx_mood, moods sqlx_mood[], price numeric)")),
        migration(3, format!("CREATE INDEX ON {items} (words); ALTER TABLE {items} ALTER COLUMN mood SET DEFAULT 'sad'")),
    ];
    let migrator = Migrator { migrations: all.into(), ..Migrator::DEFAULT };
    migrator.run(pool).await?;
    migrator.run(pool).await?; // again: there is nothing to do
    let done: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations WHERE success").fetch_one(pool).await?;
    expect("migrations", done, 3)
}

async fn run() -> Result<(), Fault> {
    // The migrator's table and the enum have fixed names, so each run has a schema of its own.
    let (schema, url) = (unique("sqlx"), database_url()?);
    let options: sqlx::postgres::PgConnectOptions = url.parse()?;
    let pool = PgPoolOptions::new().max_connections(3).connect_with(options.options([("search_path", &schema)])).await?;
    pool.execute(format!("CREATE SCHEMA {schema}").as_str()).await?;
    let result = parts(&pool, &url).await;
    let dropped = pool.execute(format!("DROP SCHEMA {schema} CASCADE").as_str()).await;
    pool.close().await;
    result.and(dropped.map(|_| ()).map_err(Fault::from))
}

async fn parts(pool: &PgPool, url: &str) -> Result<(), Fault> {
    let items = "items";
    migrations(pool, items).await?;
    types(pool, items).await?;
    transactions(pool, items).await?;
    prepared(pool).await?;
    errors(pool, items).await?;
    copying(pool, items).await?;
    give_up(pool).await?;
    two_connections(url).await?;
    at_once(pool).await?;
    listening(pool).await
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    end(run().await)
}
