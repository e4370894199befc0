//! Runs what an application does with tokio-postgres, with the driver's defaults. See lib.rs.
//!
//! tokio-postgres prepares every query (s0, s1, ...), asks the catalogs for types that it does not know, and sends
//! queries whose futures are polled at once before the answers of those before them have come.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{future, SinkExt, StreamExt, TryStreamExt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{pem::PemObject, CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sluice_test_drivers::{database_url, end, expect, unique, Fault};
use time::macros::datetime;
use tokio_postgres::types::{FromSql, Json, ToSql};
use tokio_postgres::{AsyncMessage, CancelToken, Client, IsolationLevel, NoTls, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, ToSql, FromSql)]
#[postgres(name = "mood")]
enum Mood {
    #[postgres(name = "happy")]
    Happy,
    #[postgres(name = "sad")]
    Sad,
}

/// A connection, and what comes on it without being asked for.
struct Connected {
    client: Client,
    messages: tokio::sync::mpsc::UnboundedReceiver<AsyncMessage>,
}

/// How to connect: tokio-postgres leaves all of TLS but sslmode=require to the application.
#[derive(Clone)]
struct Target {
    url: String,
    tls: Option<MakeRustlsConnect>,
}

impl Target {
    fn new(database_url: &str) -> Result<Target, Fault> {
        let (base, query) = database_url.split_once('?').unwrap_or((database_url, ""));
        let setting = |name: &str| {
            let pair = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
            pair.map(|value| value.replace("%2F", "/"))
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let (mode, config) = match (setting("sslmode").as_deref(), setting("sslrootcert")) {
            (None | Some("disable"), _) => ("disable", None),
            (Some("require"), _) => {
                let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(TakesAny));
                ("require", Some(builder.with_no_client_auth()))
            }
            (Some("verify-full"), Some(file)) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(file)?)?;
                ("require", Some(builder.with_root_certificates(roots).with_no_client_auth()))
            }
            other => return Err(format!("sslmode and sslrootcert are {other:?}").into()),
        };
        Ok(Target { url: format!("{base}?sslmode={mode}"), tls: config.map(MakeRustlsConnect::new) })
    }

    async fn connect(&self) -> Result<Connected, Fault> {
        let (sender, messages) = tokio::sync::mpsc::unbounded_channel();
        macro_rules! serve {
            ($tls:expr) => {{
                let (client, mut connection) = tokio_postgres::connect(&self.url, $tls).await?;
                tokio::spawn(async move {
                    let mut stream = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
                    while let Some(Ok(message)) = stream.next().await {
                        let _ = sender.send(message);
                    }
                });
                client
            }};
        }
        let client = match &self.tls {
            Some(tls) => serve!(tls.clone()),
            None => serve!(NoTls),
        };
        Ok(Connected { client, messages })
    }

    async fn cancel(&self, token: &CancelToken) -> Result<(), Fault> {
        match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await?,
            None => token.cancel_query(NoTls).await?,
        }
        Ok(())
    }
}

/// Encrypts and verifies nothing, which is what sslmode=require means.
#[derive(Debug)]
struct TakesAny;

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self, _: &CertificateDer, _: &[CertificateDer], _: &ServerName, _: &[u8], _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self, _: &[u8], _: &CertificateDer, _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self, _: &[u8], _: &CertificateDer, _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn expect_error<T>(what: &str, code: &str, result: Result<T, tokio_postgres::Error>) -> Result<(), Fault> {
    let error = result.err().ok_or(format!("{what}: no error, want {code}"))?;
    expect(&format!("{what} ({error})"), error.code().map(|state| state.code()), Some(code))
}

async fn types(client: &Client, items: &str) -> Result<(), Fault> {
    let at = datetime!(2024-02-29 12:30:15.123456 UTC);
    let doc = serde_json::json!({"a": [1, null, "é"]});
    let raw: Vec<u8> = (0..=255).collect();
    let (numbers, uid, moods) = (vec![Some(1), None, Some(3)], Uuid::new_v4(), vec![Mood::Sad, Mood::Happy]);
    let sql = format!("INSERT INTO {items} VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::text::numeric)");
    let nothing: Option<&str> = None;
    let price = "12345678901234567890.123456789";
    let inserted = client.execute(&sql, &[&1, &(1i64 << 62), &"naïve ☃", &at, &Json(&doc), &raw, &numbers, &uid, &true, &nothing, &Mood::Happy, &moods, &price]).await?;
    expect("rows inserted", inserted, 1)?;
    let row = client.query_one(&format!("SELECT *, price::text AS price_text FROM {items} WHERE id = $1"), &[&1]).await?;
    expect("ints", (row.get("id"), row.get("big")), (1, 1i64 << 62))?;
    expect("text", row.get("words"), "naïve ☃")?;
    expect("timestamptz", row.get::<_, time::OffsetDateTime>("at"), at)?;
    expect("jsonb", row.get::<_, serde_json::Value>("doc"), doc)?;
    expect("bytea", row.get::<_, Vec<u8>>("raw"), raw)?;
    expect("array", row.get::<_, Vec<Option<i32>>>("numbers"), numbers)?;
    expect("uuid and boolean", (row.get("uid"), row.get("yes")), (uid, true))?;
    expect("null", row.get::<_, Option<String>>("nothing"), None)?;
    expect("enum", (row.get("mood"), row.get("moods")), (Mood::Happy, moods))?;
    expect("numeric", row.get("price_text"), price)?;
    let large = "large ☃ ".repeat(300_000);
    let back: String = client.query_one("SELECT $1::text", &[&large]).await?.get(0);
    expect("large text there and back", back == large, true)
}

async fn transactions(client: &mut Client, items: &str) -> Result<(), Fault> {
    let mut tx = client.transaction().await?;
    tx.execute(&format!("INSERT INTO {items} (id, words) VALUES (2, 'committed')"), &[]).await?;
    let inner = tx.transaction().await?; // a savepoint
    inner.execute(&format!("DELETE FROM {items}"), &[]).await?;
    inner.rollback().await?;
    tx.commit().await?;
    let tx = client.build_transaction().isolation_level(IsolationLevel::Serializable).start().await?;
    tx.execute(&format!("UPDATE {items} SET words = 'never' WHERE id = 2"), &[]).await?;
    drop(tx); // rolls back, and nobody waits for it
    let words: String = client.query_one(&format!("SELECT words FROM {items} WHERE id = $1"), &[&2]).await?.get(0);
    expect("after commit, savepoint and rollback", words.as_str(), "committed")
}

async fn prepared(client: &Client) -> Result<(), Fault> {
    let twice = client.prepare("SELECT $1::int * 2").await?;
    for n in 0..60 {
        expect("prepared", client.query_one(&twice, &[&n]).await?.get(0), n * 2)?;
        expect("prepared each time", client.query_one("SELECT $1::int * 3", &[&n]).await?.get(0), n * 3)?;
    }
    drop(twice); // is closed behind the next query
    expect("unnamed", client.query_typed("SELECT $1 + 1", &[(&1, tokio_postgres::types::Type::INT4)]).await?[0].get(0), 2)
}

/// Each of these futures has sent its query when the first answer comes.
async fn pipelined(client: &Client) -> Result<(), Fault> {
    let twice = client.prepare("SELECT $1::int * 2").await?;
    let numbers: Vec<i32> = (0..300).collect();
    let asked = numbers.iter().map(|n| async { client.query_one(&twice, &[n]).await.map(|row| row.get::<_, i32>(0)) });
    expect("pipeline", future::try_join_all(asked).await?, numbers.iter().map(|n| n * 2).collect())?;
    let asked = numbers.iter().take(50).map(|n| async move {
        client.query_one(&format!("SELECT $1::int + {n}"), &[n]).await.map(|row| row.get::<_, i32>(0))
    });
    expect("pipelined preparing", future::try_join_all(asked).await?, numbers.iter().take(50).map(|n| n * 2).collect())?;
    let (first, wrong, last) = future::join3(
        client.query_one("SELECT $1::int", &[&1]), client.query_one("SELECT 1 / $1::int", &[&0]), client.query_one("SELECT $1::text", &[&"last"]),
    ).await;
    expect("first of a pipeline", first?.get(0), 1)?;
    expect_error("error in a pipeline", "22012", wrong)?;
    expect("last of a pipeline", last?.get(0), "last")
}

async fn portals(client: &mut Client) -> Result<(), Fault> {
    let tx = client.transaction().await?;
    let portal = tx.bind("SELECT generate_series(1, $1)", &[&500]).await?;
    let mut walked: Vec<i32> = Vec::new();
    loop {
        let rows = tx.query_portal(&portal, 60).await?;
        if rows.is_empty() {
            break;
        }
        walked.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        expect("between the portions", tx.query_one("SELECT $1::text", &[&"x"]).await?.get(0), "x")?;
    }
    expect("portal", walked, (1..=500).collect())?;
    Ok(tx.commit().await?)
}

async fn errors(client: &mut Client, items: &str) -> Result<(), Fault> {
    expect_error("unique violation", "23505", client.execute(&format!("INSERT INTO {items} (id) VALUES ($1)"), &[&1]).await)?;
    expect_error("syntax error", "42601", client.execute("SELEC 1", &[]).await)?;
    expect_error("no such table", "42P01", client.query("SELECT * FROM no_such_table_here WHERE 1 = $1", &[&1]).await)?;
    let streamed = client.query("SELECT 1 / (5000 - n) FROM generate_series(1, $1::int) n", &[&10000]).await;
    expect_error("error while rows stream", "22012", streamed)?;
    let tx = client.transaction().await?;
    expect_error("error in a transaction", "22012", tx.query("SELECT 1 / $1::int", &[&0]).await)?;
    expect_error("in a failed transaction", "25P02", tx.query("SELECT 1", &[]).await)?;
    tx.rollback().await?;
    expect("after the errors", client.query_one("SELECT $1::text", &[&"well"]).await?.get(0), "well")?;
    let several = client.simple_query("SELECT 1; SELECT 2").await?;
    let rows = several.iter().filter(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_))).count();
    expect("several statements at once", rows, 2)
}

async fn copying(client: &Client, items: &str) -> Result<(), Fault> {
    let lines: Vec<String> = (0..20000).map(|n| format!("{}\trow\\t{n}\n", 1000 + n)).collect();
    let sink = client.copy_in(&format!("COPY {items} (id, words) FROM STDIN")).await?;
    let mut sink = std::pin::pin!(sink);
    for line in &lines {
        sink.feed(std::io::Cursor::new(line.clone().into_bytes())).await?;
    }
    expect("rows copied in", sink.finish().await?, 20000)?;
    let out = client.copy_out(&format!("COPY (SELECT id, words FROM {items} WHERE id >= 1000 ORDER BY id) TO STDOUT")).await?;
    let chunks: Vec<_> = out.try_collect().await?;
    expect("the copy", chunks.concat() == lines.concat().into_bytes(), true)?;
    let sink = client.copy_in(&format!("COPY {items} (id) FROM STDIN")).await?;
    let mut sink = std::pin::pin!(sink);
    sink.feed(std::io::Cursor::new(b"not a number\n".to_vec())).await?;
    expect_error("error in copy", "22P02", sink.finish().await)?;
    {
        let sink = client.copy_in::<_, std::io::Cursor<Vec<u8>>>(&format!("COPY {items} (id) FROM STDIN")).await?;
        drop(sink); // gives the copy up
    }
    let count: i64 = client.query_one(&format!("SELECT count(*) FROM {items} WHERE id >= $1"), &[&1000]).await?.get(0);
    expect("after the copies", count, 20000)
}

async fn cancel(target: &Target, client: &Client) -> Result<(), Fault> {
    let token = client.cancel_token();
    let again = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await; // a cancel that comes before the query does nothing
            if let Err(fault) = target.cancel(&token).await {
                return fault;
            }
        }
    };
    tokio::select! {
        ended = client.query("SELECT pg_sleep(60)", &[]) => expect_error("cancelled", "57014", ended)?,
        fault = again => return Err(fault),
    }
    for _ in 0..5 { // a cancel that came late may hit one statement more of the same session
        match client.query_one("SELECT 'alive'", &[]).await {
            Ok(row) => return expect("after the cancel", row.get(0), "alive"),
            Err(error) if error.code().map(|state| state.code()) == Some("57014") => continue,
            Err(error) => return Err(error.into()),
        }
    }
    Err("after the cancel: statements go on being cancelled".into())
}

async fn notices(connected: &mut Connected) -> Result<(), Fault> {
    while connected.messages.try_recv().is_ok() {}
    connected.client.batch_execute("DROP TABLE IF EXISTS no_such_table_here").await?;
    match connected.messages.recv().await {
        Some(AsyncMessage::Notice(notice)) => expect("notice", notice.message(), "table \"no_such_table_here\" does not exist, skipping"),
        _ => Err("notice: something else came".into()),
    }
}

/// The names of statements mean something else on each connection.
async fn two_connections(target: &Target) -> Result<(), Fault> {
    let (first, second) = (target.connect().await?.client, target.connect().await?.client);
    let (one, two) = (first.prepare("SELECT $1::int * 3").await?, second.prepare("SELECT 'second ' || $1::int").await?);
    for n in 0..60 {
        expect("first by turns", first.query_one(&one, &[&n]).await?.get(0), n * 3)?;
        expect("second by turns", second.query_one(&two, &[&n]).await?.get(0), format!("second {n}"))?;
    }
    let many = |mut client: Client, base: i32| async move {
        for n in 0..200 {
            let tx = client.transaction().await?;
            expect("at once", tx.query_one(&format!("SELECT $1::int + {base}"), &[&n]).await?.get(0), base + n)?;
            tx.commit().await?;
        }
        Ok::<(), Fault>(())
    };
    let (a, b) = (tokio::spawn(many(first, 1000)), tokio::spawn(many(second, 2000)));
    a.await??;
    b.await?
}

async fn listening(target: &Target) -> Result<(), Fault> {
    let channel = unique("tokio");
    let (mut listener, other) = (target.connect().await?, target.connect().await?);
    listener.client.batch_execute(&format!("LISTEN {channel}")).await?;
    other.client.execute("SELECT pg_notify($1, 'hello')", &[&channel]).await?;
    let heard = |n: Notification| (n.channel().to_owned(), n.payload().to_owned());
    match tokio::time::timeout(Duration::from_secs(60), listener.messages.recv()).await? {
        Some(AsyncMessage::Notification(n)) => expect("notification", heard(n), (channel, "hello".to_owned())),
        _ => Err("notification: something else came".into()),
    }
}

async fn run() -> Result<(), Fault> {
    let target = Target::new(&database_url()?)?;
    let mut connected = target.connect().await?;
    let (items, mood) = (unique("tokio_items"), unique("tokio_schema"));
    // The enum has a fixed name in a schema of its own, for the driver compares the name.
    connected.client.batch_execute(&format!("CREATE SCHEMA {mood}; CREATE TYPE {mood}.mood AS ENUM ('happy', 'sad');
        CREATE TABLE {items} (id int PRIMARY KEY, big bigint, words text, at timestamptz, doc jsonb, raw bytea, numbers int[],
        uid uuid, yes boolean, nothing text, mood {mood}.mood, moods {mood}.mood[], price numeric)")).await?;
    let result = parts(&target, &mut connected, &items).await;
    let dropped = connected.client.batch_execute(&format!("DROP TABLE {items}; DROP SCHEMA {mood} CASCADE")).await;
    result.and(dropped.map_err(Fault::from))
}

async fn parts(target: &Target, connected: &mut Connected, items: &str) -> Result<(), Fault> {
    types(&connected.client, items).await?;
    transactions(&mut connected.client, items).await?;
    prepared(&connected.client).await?;
    pipelined(&connected.client).await?;
    portals(&mut connected.client).await?;
    errors(&mut connected.client, items).await?;
    copying(&connected.client, items).await?;
    cancel(target, &connected.client).await?;
    notices(connected).await?;
    two_connections(target).await?;
    listening(target).await
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    end(run().await)
}
