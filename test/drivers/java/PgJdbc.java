import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicInteger;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PGobject;

/**
 * Runs what an application does with pgjdbc, with the driver's defaults, and compares each answer: from its fifth run on
 * a statement is prepared on the server, and with a fetch size a result comes portion by portion from a portal.
 *
 * <p>The connection string is in DATABASE_URL. The last line of the output is "ok N checks" and the exit status 0, or
 * the first difference stands on stderr and the status is 1.
 */
public final class PgJdbc {
    private static final AtomicInteger checks = new AtomicInteger();
    private final String url;
    private final Properties settings;
    private final String items = "jdbc_items_" + UUID.randomUUID().toString().replace("-", "");

    private PgJdbc(String databaseUrl) throws Exception {
        java.net.URI uri = new java.net.URI(databaseUrl);
        String[] user = uri.getUserInfo().split(":", 2);
        settings = new Properties();
        settings.setProperty("user", user[0]);
        settings.setProperty("password", user[1]);
        url = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath()
            + (uri.getRawQuery() == null ? "" : "?" + uri.getRawQuery());
    }

    public static void main(String[] args) throws Exception {
        try {
            new PgJdbc(System.getenv("DATABASE_URL")).run();
        } catch (Throwable fault) {
            fault.printStackTrace();
            System.err.println("PgJdbc: after " + checks + " checks");
            System.exit(1);
        }
        System.out.println("ok " + checks + " checks");
        System.exit(0);
    }

    private void run() throws Exception {
        try (Connection conn = connect()) {
            execute(conn, "CREATE TABLE " + items + " (id int PRIMARY KEY, big bigint, words text, at timestamptz, day date, doc jsonb,"
                + " raw bytea, numbers int[], names text[], price numeric, ratio float8, yes boolean, uid uuid, nothing text)");
            try {
                types(conn);
                transactions(conn);
                prepared(conn);
                batches(conn);
                portals(conn);
                errors(conn);
                copying(conn);
                notices(conn);
                keys(conn);
                cancel(conn);
                twoConnections();
                schemaChange(conn);
                catalogs(conn);
            } finally {
                if (!conn.getAutoCommit()) {
                    conn.rollback();
                    conn.setAutoCommit(true);
                }
                execute(conn, "DROP TABLE IF EXISTS " + items);
            }
        }
        listening();
    }

    private Connection connect() throws SQLException {
        return DriverManager.getConnection(url, settings);
    }

    private static void expect(String what, Object got, Object want) {
        if (!Objects.deepEquals(got, want)) {
            throw new AssertionError(what + ": got " + show(got) + ", want " + show(want));
        }
        checks.incrementAndGet();
    }

    private static String show(Object value) {
        String text = value instanceof Object[] list ? Arrays.deepToString(list) : String.valueOf(value);
        return text.length() < 1000 ? text : text.substring(0, 1000) + "...";
    }

    private static SQLException expectError(String what, String code, Callable<?> run) throws Exception {
        try {
            run.call();
        } catch (SQLException error) {
            expect(what + " (" + error.getMessage() + ")", error.getSQLState(), code);
            return error;
        }
        throw new AssertionError(what + ": no error, want " + code);
    }

    private static Void execute(Connection conn, String sql, Object... args) throws SQLException {
        try (PreparedStatement statement = conn.prepareStatement(sql)) {
            bind(statement, args);
            statement.execute();
            return null;
        }
    }

    private static void bind(PreparedStatement statement, Object... args) throws SQLException {
        for (int i = 0; i < args.length; i++) {
            statement.setObject(i + 1, args[i]);
        }
    }

    private static Object scalar(PreparedStatement statement, Object... args) throws SQLException {
        bind(statement, args);
        try (ResultSet rows = statement.executeQuery()) {
            rows.next();
            return rows.getObject(1);
        }
    }

    private static Object scalar(Connection conn, String sql, Object... args) throws SQLException {
        try (PreparedStatement statement = conn.prepareStatement(sql)) {
            return scalar(statement, args);
        }
    }

    private void types(Connection conn) throws SQLException {
        PGobject doc = new PGobject();
        doc.setType("jsonb");
        doc.setValue("{\"a\": [1, null, \"é\"]}");
        byte[] raw = new byte[256];
        for (int i = 0; i < raw.length; i++) {
            raw[i] = (byte) i;
        }
        Integer[] numbers = {1, null, 3};
        String[] names = {"a", "with \"quotes\", and, commas", "NULL"};
        OffsetDateTime at = OffsetDateTime.of(2024, 2, 29, 12, 30, 15, 123456000, ZoneOffset.UTC);
        UUID uid = UUID.randomUUID();
        BigDecimal price = new BigDecimal("12345678901234567890.123456789");
        Array numberArray = conn.createArrayOf("int4", numbers);
        Array nameArray = conn.createArrayOf("text", names);
        execute(conn, "INSERT INTO " + items + " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", 1, 1L << 62, "naïve ☃ 'quoted' \\",
            at, at.toLocalDate(), doc, raw, numberArray, nameArray, price, 1e-300, true, uid, null);
        try (PreparedStatement select = conn.prepareStatement("SELECT * FROM " + items + " WHERE id = ?")) {
            for (int run = 1; run <= 8; run++) { // text at first, binary once it is prepared
                select.setInt(1, 1);
                try (ResultSet row = select.executeQuery()) {
                    row.next();
                    Object[] got = {row.getInt("id"), row.getLong("big"), row.getString("words"), row.getObject("at", OffsetDateTime.class),
                        row.getObject("day", LocalDate.class), row.getString("doc"), row.getBytes("raw"), row.getArray("numbers").getArray(),
                        row.getArray("names").getArray(), row.getBigDecimal("price"), row.getDouble("ratio"), row.getBoolean("yes"),
                        row.getObject("uid"), row.getString("nothing")};
                    expect("the row, run " + run, got, new Object[] {1, 1L << 62, "naïve ☃ 'quoted' \\", at, at.toLocalDate(), doc.getValue(),
                        raw, numbers, names, price, 1e-300, true, uid, null});
                }
            }
        }
        String large = "large ☃ ".repeat(300_000);
        expect("large text there and back", large.equals(scalar(conn, "SELECT ?::text", large)), true);
    }

    private void transactions(Connection conn) throws Exception {
        conn.setAutoCommit(false);
        execute(conn, "INSERT INTO " + items + " (id, words) VALUES (2, 'committed')");
        conn.commit();
        execute(conn, "UPDATE " + items + " SET words = 'kept' WHERE id = 2");
        Savepoint here = conn.setSavepoint();
        execute(conn, "DELETE FROM " + items);
        conn.rollback(here);
        conn.commit();
        execute(conn, "UPDATE " + items + " SET words = 'never' WHERE id = 2");
        conn.rollback();
        expect("after commit, savepoint and rollback", scalar(conn, "SELECT words FROM " + items + " WHERE id = 2"), "kept");
        conn.commit();
        conn.setReadOnly(true); // pgjdbc says so with each BEGIN
        expectError("write in a read-only transaction", "25006", () -> execute(conn, "DELETE FROM " + items));
        conn.rollback();
        conn.setReadOnly(false);
        conn.setAutoCommit(true);
    }

    private void prepared(Connection conn) throws SQLException {
        try (PreparedStatement twice = conn.prepareStatement("SELECT ? * 2"); PreparedStatement thrice = conn.prepareStatement("SELECT ? * 3")) {
            for (int n = 0; n < 40; n++) {
                expect("first of two", scalar(twice, n), n * 2);
                expect("second of two", scalar(thrice, n), n * 3);
            }
        }
        try (PreparedStatement changing = conn.prepareStatement("SELECT ?::text")) {
            for (int n = 0; n < 12; n++) { // another type of parameter has pgjdbc prepare anew
                expect("int as text", scalar(changing, n), String.valueOf(n));
                expect("text as text", scalar(changing, "s" + n), "s" + n);
            }
        }
        conn.setAutoCommit(false);
        for (int n = 0; n < 300; n++) { // more texts than the driver keeps: the oldest are closed
            expect("many texts", scalar(conn, "SELECT " + n + " + ?", 1), n + 1);
        }
        conn.commit();
        conn.setAutoCommit(true);
    }

    private void batches(Connection conn) throws SQLException {
        conn.setAutoCommit(false);
        try (PreparedStatement insert = conn.prepareStatement("INSERT INTO " + items + " (id, words) VALUES (?, ?)")) {
            for (int n = 0; n < 1000; n++) {
                bind(insert, 1000 + n, "batch " + n);
                insert.addBatch();
            }
            expect("rows of the batch", Arrays.stream(insert.executeBatch()).sum(), 1000);
        }
        conn.commit();
        try (Statement batch = conn.createStatement()) {
            batch.addBatch("INSERT INTO " + items + " (id) VALUES (5000)");
            batch.addBatch("INSERT INTO " + items + " (id) VALUES (1)");
            batch.addBatch("INSERT INTO " + items + " (id) VALUES (5001)");
            batch.executeBatch();
            throw new AssertionError("a batch with an error: no error");
        } catch (BatchUpdateException error) {
            expect("error in a batch", error.getSQLState(), "23505");
        }
        conn.rollback();
        conn.setAutoCommit(true);
        expect("after the batches", scalar(conn, "SELECT count(*) FROM " + items + " WHERE id >= 1000"), 1000L);
    }

    /** With a fetch size inside a transaction pgjdbc leaves the portal open, and may run other statements between. */
    private void portals(Connection conn) throws SQLException {
        conn.setAutoCommit(false);
        for (int run = 0; run < 7; run++) {
            try (PreparedStatement one = conn.prepareStatement("SELECT generate_series(1, ?)");
                PreparedStatement other = conn.prepareStatement("SELECT -generate_series(1, ?)")) {
                one.setFetchSize(37);
                other.setFetchSize(50);
                one.setInt(1, 500);
                other.setInt(1, 500);
                List<Integer> walked = new ArrayList<>();
                try (ResultSet rows = one.executeQuery(); ResultSet others = other.executeQuery()) {
                    while (rows.next() && others.next()) {
                        expect("two portals by turns", others.getInt(1), -rows.getInt(1));
                        walked.add(rows.getInt(1));
                        if (walked.size() % 100 == 0) {
                            expect("between the portions", scalar(conn, "SELECT ?::int", walked.size()), walked.size());
                        }
                    }
                }
                expect("all rows", walked.size(), 500);
            }
        }
        conn.commit();
        conn.setAutoCommit(true);
    }

    private void errors(Connection conn) throws Exception {
        String insert = "INSERT INTO " + items + " (id) VALUES (?)";
        for (int run = 0; run < 8; run++) { // unprepared and prepared
            expectError("unique violation", "23505", () -> execute(conn, insert, 1));
        }
        expectError("syntax error", "42601", () -> execute(conn, "SELEC 1"));
        expectError("error while rows stream", "22012", () -> scalar(conn, "SELECT sum(1 / (? - n)) FROM generate_series(1, 10000) n", 5000));
        conn.setAutoCommit(false);
        expectError("error in a transaction", "22012", () -> scalar(conn, "SELECT 1 / ?", 0));
        expectError("in a failed transaction", "25P02", () -> scalar(conn, "SELECT 1"));
        conn.rollback();
        conn.setAutoCommit(true);
        expect("after the errors", scalar(conn, "SELECT ?::text", "well"), "well");
    }

    private void copying(Connection conn) throws Exception {
        execute(conn, "DELETE FROM " + items + " WHERE id >= 1000");
        StringBuilder lines = new StringBuilder();
        for (int n = 0; n < 20000; n++) {
            lines.append(1000 + n).append("\trow\\t").append(n).append('\n');
        }
        byte[] text = lines.toString().getBytes(StandardCharsets.UTF_8);
        var copy = conn.unwrap(PGConnection.class).getCopyAPI();
        expect("rows copied in", copy.copyIn("COPY " + items + " (id, words) FROM STDIN", new ByteArrayInputStream(text)), 20000L);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        expect("rows copied out", copy.copyOut("COPY (SELECT id, words FROM " + items + " WHERE id >= 1000 ORDER BY id) TO STDOUT", out), 20000L);
        expect("the copy", Arrays.equals(out.toByteArray(), text), true);
        expectError("error in copy", "22P02",
            () -> copy.copyIn("COPY " + items + " (id) FROM STDIN", new ByteArrayInputStream("not a number\n".getBytes(StandardCharsets.UTF_8))));
        expect("after the copies", scalar(conn, "SELECT count(*) FROM " + items + " WHERE id >= 1000"), 20000L);
    }

    private void notices(Connection conn) throws SQLException {
        try (Statement statement = conn.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS no_such_table_here");
            expect("notice", statement.getWarnings().getMessage(), "table \"no_such_table_here\" does not exist, skipping");
        }
    }

    private void keys(Connection conn) throws SQLException {
        try (PreparedStatement insert = conn.prepareStatement("INSERT INTO " + items + " (id, words) VALUES (?, 'k')", Statement.RETURN_GENERATED_KEYS)) {
            insert.setInt(1, 900);
            insert.executeUpdate();
            try (ResultSet generated = insert.getGeneratedKeys()) {
                generated.next();
                expect("generated key", generated.getInt("id"), 900);
            }
        }
    }

    private void cancel(Connection conn) throws Exception {
        ExecutorService thread = Executors.newSingleThreadExecutor();
        try (Statement sleep = conn.createStatement()) {
            Future<Boolean> end = thread.submit(() -> sleep.execute("SELECT pg_sleep(60)"));
            while (!end.isDone()) { // a cancel that comes before the query does nothing
                sleep.cancel();
                Thread.sleep(100);
            }
            expectError("cancelled", "57014", () -> {
                try {
                    return end.get();
                } catch (ExecutionException error) {
                    throw (SQLException) error.getCause();
                }
            });
        }
        thread.shutdown();
        for (int again = 0; ; again++) { // a cancel that came late may hit one statement more of the same session
            try {
                expect("after the cancel", scalar(conn, "SELECT 'alive'"), "alive");
                return;
            } catch (SQLException error) {
                expect("a late cancel", again < 5 ? error.getSQLState() : error, "57014");
            }
        }
    }

    /** pgjdbc numbers its statements: S_1 means something else on each connection. */
    private void twoConnections() throws Exception {
        try (Connection first = connect(); Connection second = connect();
            PreparedStatement one = first.prepareStatement("SELECT ?::int * 3"); PreparedStatement two = second.prepareStatement("SELECT 'second ' || ?::int")) {
            for (int n = 0; n < 60; n++) {
                expect("first by turns", scalar(one, n), n * 3);
                expect("second by turns", scalar(two, n), "second " + n);
            }
            ExecutorService threads = Executors.newFixedThreadPool(2);
            List<Future<Void>> ends = new ArrayList<>();
            for (Connection conn : List.of(first, second)) {
                int base = conn == first ? 1000 : 2000;
                ends.add(threads.submit(() -> {
                    conn.setAutoCommit(false);
                    for (int n = 0; n < 200; n++) {
                        expect("at once", scalar(conn, "SELECT ?::int + " + base, n), base + n);
                        conn.commit();
                    }
                    return null;
                }));
            }
            for (Future<Void> end : ends) {
                end.get(60, TimeUnit.SECONDS);
            }
            threads.shutdown();
        }
    }

    /** Outside of a transaction pgjdbc prepares anew, by itself, what Postgres says is stale. */
    private void schemaChange(Connection conn) throws SQLException {
        try (PreparedStatement select = conn.prepareStatement("SELECT * FROM " + items + " WHERE id = ?")) {
            for (int n = 0; n < 8; n++) {
                scalar(select, 2);
            }
            execute(conn, "ALTER TABLE " + items + " ADD COLUMN more int DEFAULT 5");
            select.setInt(1, 2);
            try (ResultSet row = select.executeQuery()) {
                row.next();
                expect("after a change of the table", row.getInt("more"), 5);
            }
        }
    }

    private void catalogs(Connection conn) throws SQLException {
        List<String> names = new ArrayList<>();
        try (ResultSet columns = conn.getMetaData().getColumns(null, null, items, null)) {
            while (columns.next()) {
                names.add(columns.getString("COLUMN_NAME"));
            }
        }
        expect("columns", names.subList(0, 3), List.of("id", "big", "words"));
    }

    private void listening() throws SQLException {
        String channel = "jdbc_" + UUID.randomUUID().toString().replace("-", "");
        try (Connection listener = connect(); Connection other = connect()) {
            execute(listener, "LISTEN " + channel);
            execute(other, "SELECT pg_notify(?, 'hello')", channel);
            PGNotification[] heard = listener.unwrap(PGConnection.class).getNotifications(60_000);
            expect("notification", List.of(heard[0].getName(), heard[0].getParameter()), List.of(channel, "hello"));
        }
    }
}
