#!/usr/bin/env node
// Runs what an application does with postgres.js, with the driver's defaults. See check.js.
//
// postgres.js prepares every statement with parameters under a random name, describes it with a Flush instead of a Sync
// before it binds, sends queries before the answers of those before them have come, and asks the catalogs for the
// types of arrays when it connects.
'use strict'

const { readFileSync } = require('node:fs')
const { randomBytes, randomUUID } = require('node:crypto')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const postgres = require('postgres')
const { alive, expect, expectError, main, unique } = require('./check')

const items = unique('postgres_js_items')
const copied = unique('postgres_js_copied')

// connect returns a pool. postgres.js reads sslmode, but the certificate of the authority has to be given to it.
function connect(url, options = {}) {
  const read = new URL(url)
  const file = read.searchParams.get('sslrootcert')
  read.searchParams.delete('sslrootcert')
  if (file) {
    read.searchParams.delete('sslmode')
    options = { ...options, ssl: { ca: readFileSync(file), rejectUnauthorized: true } }
  }
  return postgres(read.href, options)
}

async function create(sql) {
  await sql`CREATE TABLE ${sql(items)} (id int PRIMARY KEY, big bigint, words text, at timestamptz, doc jsonb, raw bytea,
    numbers int[], names text[], price numeric, yes boolean, uid uuid, nothing text)`
  await sql`CREATE TABLE ${sql(copied)} (id int, words text)`
}

async function types(sql) {
  const row = {
    id: 1,
    big: '4611686018427387904',
    words: "naïve ☃ 'quoted' \\",
    at: new Date('2024-02-29T12:30:15.123Z'),
    doc: { a: [1, null, 'é'] },
    raw: Buffer.from(Array.from({ length: 256 }, (_, n) => n)),
    numbers: [1, -2, 3], // postgres.js makes NaN of a null here
    names: ['a', 'with "quotes", and, commas', 'NULL'],
    price: '12345678901234567890.123456789',
    yes: true,
    uid: randomUUID(),
    nothing: null,
  }
  const inserted = await sql`INSERT INTO ${sql(items)} ${sql(row)}`
  expect('rows inserted', inserted.count, 1)
  const [extended] = await sql`SELECT * FROM ${sql(items)} WHERE id = ${1}`
  expect('extended query', { ...extended }, row)
  const [simple] = await sql.unsafe(`SELECT * FROM ${items} WHERE id = 1`).simple()
  expect('simple query', { ...simple }, row)
  const large = randomBytes(3 << 20)
  const [{ back }] = await sql`SELECT ${large}::bytea AS back`
  expect('3 MiB there and back', large.equals(back), true)
  const many = Array.from({ length: 200 }, (_, n) => ({ id: 100 + n, words: `many ${n}` }))
  await sql`INSERT INTO ${sql(items)} ${sql(many)}`
  expect('many rows', (await sql`SELECT id FROM ${sql(items)} WHERE words LIKE ${'many %'}`).length, 200)
  const several = await sql.unsafe('SELECT 1 AS one; SELECT 2 AS two')
  expect('several statements at once', several.map(([first]) => ({ ...first })), [{ one: 1 }, { two: 2 }])
  const described = await sql`SELECT ${1}::int AS n, ${'x'}::text AS s`.describe()
  expect('described', [described.types, described.columns.map((column) => column.name)], [[23, 25], ['n', 's']])
}

async function transactions(sql) {
  await sql.begin(async (tx) => {
    await tx`INSERT INTO ${tx(items)} (id, words) VALUES (${2}, 'committed')`
    const failed = tx.savepoint(async (inner) => {
      await inner`DELETE FROM ${inner(items)}`
      await inner`SELECT 1 / ${0}::int`
    })
    await expectError('error behind a savepoint', '22012', failed)
  })
  const rolledBack = sql.begin('ISOLATION LEVEL SERIALIZABLE', async (tx) => {
    await tx`UPDATE ${tx(items)} SET words = 'never'`
    await expectError('unique violation', '23505', tx`INSERT INTO ${tx(items)} (id) VALUES (${2})`)
    await tx`SELECT 1`
  })
  await expectError('error in a transaction', '23505', rolledBack)
  const [{ words }] = await sql`SELECT words FROM ${sql(items)} WHERE id = ${2}`
  expect('after commit, savepoint and rollback', words, 'committed')
  const results = await sql.begin((tx) => [tx`SELECT ${1}::int AS n`, tx`SELECT ${2}::int AS n`]) // sent together
  expect('pipelined in a transaction', results.map(([{ n }]) => n), [1, 2])
}

async function prepared(sql) {
  for (let n = 0; n < 60; n++) {
    expect('many times', (await sql`SELECT ${n}::int + 1 AS n`)[0].n, n + 1)
  }
  const numbers = Array.from({ length: 300 }, (_, n) => n)
  const answers = await Promise.all(numbers.map((n) => (n % 2 ? sql`SELECT ${n}::int * 2 AS n` : sql`SELECT ${n}::int * 3 AS n`)))
  expect('through the pool at once', answers.map(([{ n }]) => n), numbers.map((n) => n * (n % 2 ? 2 : 3)))
}

// schemaChange has a plan that gets stale; postgres.js prepares anew when Postgres says so.
async function schemaChange(url) {
  const sql = connect(url, { max: 1 })
  const row = async () => ({ ...(await sql`SELECT * FROM ${sql(copied)} WHERE id = ${7}`)[0] })
  expect('before the change', await row(), { id: 7, words: 'row\t7' })
  await sql`ALTER TABLE ${sql(copied)} ADD COLUMN more int DEFAULT 5`
  expect('after a change of the table', await row(), { id: 7, words: 'row\t7', more: 5 })
  await sql.end()
}

async function pipelined(url) {
  const sql = connect(url, { max: 1 }) // one connection, so that all queries are in one pipeline
  const numbers = Array.from({ length: 300 }, (_, n) => n)
  const answers = await Promise.all(numbers.map((n) => (n % 3 ? sql`SELECT ${n}::int + 1 AS n` : sql.unsafe('SELECT $1::int + 1 AS n', [n]))))
  expect('pipeline', answers.map(([{ n }]) => n), numbers.map((n) => n + 1))
  const mixed = await Promise.allSettled([sql`SELECT ${1}::int AS n`, sql`SELECT 1 / ${0}::int AS n`, sql`SELECT ${3}::int AS n`, sql`SELEC ${4}`])
  expect('errors in a pipeline', mixed.map(({ value, reason }) => value?.[0].n ?? reason.code), [1, '22012', 3, '42601'])
  await sql.end()
}

async function errors(sql) {
  const error = await expectError('unique violation', '23505', sql`INSERT INTO ${sql(items)} (id) VALUES (${1})`)
  expect('its constraint', error.constraint_name, `${items}_pkey`)
  await expectError('syntax error', '42601', sql`SELEC 1`)
  await expectError('error in a statement with parameters', '42P01', sql`SELECT * FROM no_such_table_here WHERE id = ${1}`)
  await expectError('error while rows stream', '22012', sql`SELECT 1 / (${5000}::int - n) FROM generate_series(1, 10000) n`)
  expect('after the errors', (await sql`SELECT ${'well'} AS word`)[0].word, 'well')
}

async function copying(sql) {
  const lines = Array.from({ length: 20000 }, (_, n) => `${n}\trow\\t${n}\n`)
  await pipeline(Readable.from(lines), await sql`COPY ${sql(copied)} FROM STDIN`.writable())
  const chunks = [] // few: postgres.js may leave the socket of a stream paused that was full at its end
  for await (const chunk of await sql`COPY (SELECT * FROM ${sql(copied)} ORDER BY id LIMIT 200) TO STDOUT`.readable()) {
    chunks.push(chunk)
  }
  expect('rows copied out', Buffer.concat(chunks).toString(), lines.slice(0, 200).join(''))
  expect('after the copies', (await sql`SELECT count(*)::int AS n FROM ${sql(copied)}`)[0].n, 20000)
}

async function cursors(sql) {
  const walked = []
  await sql`SELECT generate_series(1, ${500}::int) AS n`.cursor(60, (rows) => walked.push(...rows.map(({ n }) => n)))
  expect('cursor', walked, Array.from({ length: 500 }, (_, n) => n + 1))
  let first
  for await (const rows of sql`SELECT generate_series(1, ${500}::int) AS n`.cursor(10)) {
    first = rows.map(({ n }) => n)
    break // the rest is closed unread
  }
  expect('cursor that is left', first, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  const streamed = []
  await sql`SELECT generate_series(1, ${500}::int) AS n`.forEach(({ n }) => streamed.push(n))
  expect('row by row', streamed.length, 500)
}

async function notices(url) {
  const heard = []
  const sql = connect(url, { max: 1, onnotice: (notice) => heard.push([notice.severity, notice.message]) })
  await sql`DROP TABLE IF EXISTS no_such_table_here`
  expect('notice', heard, [['NOTICE', 'table "no_such_table_here" does not exist, skipping']])
  await sql.end()
}

async function cancel(sql) {
  const query = sql`SELECT pg_sleep(60)`
  query.execute()
  const again = setInterval(() => query.cancel(), 100) // a cancel that comes before the query does nothing
  await expectError('cancelled', '57014', query)
  clearInterval(again)
  await alive(async () => (await sql`SELECT 'alive' AS word`)[0].word)
}

async function listening(sql) {
  const channel = unique('postgres_js_channel')
  let hear
  const heard = new Promise((resolve) => { hear = resolve })
  const subscription = await sql.listen(channel, hear)
  await sql.notify(channel, 'hello')
  expect('notification', await heard, 'hello')
  await subscription.unlisten()
}

async function twoConnections(url) {
  const pools = [connect(url, { max: 1 }), connect(url, { max: 1 })]
  const ask = async (which, n) => (await pools[which].unsafe(`SELECT $1::int + ${1000 * which} AS n`, [n], { prepare: true }))[0].n
  for (let n = 0; n < 60; n++) {
    expect('first by turns', await ask(0, n), n)
    expect('second by turns', await ask(1, n), n + 1000)
  }
  const many = async (which) => {
    for (let n = 0; n < 200; n++) {
      expect('at once', await ask(which, n), n + 1000 * which)
    }
  }
  await Promise.all([many(0), many(1)])
  await Promise.all(pools.map((sql) => sql.end()))
}

async function run(url) {
  const sql = connect(url, { max: 3 })
  try {
    for (const part of [create, types, transactions, prepared, errors, copying, cursors, cancel, listening]) {
      await part(sql)
    }
    for (const part of [pipelined, notices, schemaChange, twoConnections]) {
      await part(url)
    }
  } finally {
    await sql.unsafe(`DROP TABLE IF EXISTS ${items}, ${copied}`).catch(() => {}) // what came first is what counts
  }
  await sql.end()
}

main(run)
