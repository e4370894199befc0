#!/usr/bin/env node
// Runs what an application does with node-postgres, with the driver's defaults. See check.js.
'use strict'

const { randomBytes, randomUUID } = require('node:crypto')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { Client, Pool } = require('pg')
const copy = require('pg-copy-streams')
const { alive, expect, expectError, main, unique } = require('./check')

const items = unique('node_items')
const copied = unique('node_copied')

async function scalar(client, ...query) {
  const { rows } = await client.query(...query)
  return Object.values(rows[0])[0]
}

async function create(client) {
  await client.query(`CREATE TABLE ${items} (id int PRIMARY KEY, big bigint, words text, at timestamptz, doc jsonb, raw bytea,
    numbers int[], names text[], price numeric, yes boolean, uid uuid, nothing text)`)
  await client.query(`CREATE TABLE ${copied} (id int, words text)`)
}

async function types(client) {
  const row = {
    id: 1,
    big: '4611686018427387904',
    words: "naïve ☃ 'quoted' \\",
    at: new Date('2024-02-29T12:30:15.123Z'),
    doc: { a: [1, null, 'é'] },
    raw: Buffer.from(Array.from({ length: 256 }, (_, n) => n)),
    numbers: [1, null, 3],
    names: ['a', 'with "quotes", and, commas', 'NULL'],
    price: '12345678901234567890.123456789',
    yes: true,
    uid: randomUUID(),
    nothing: null,
  }
  const values = Object.values(row)
  const inserted = await client.query(`INSERT INTO ${items} VALUES (${values.map((_, n) => `$${n + 1}`)})`, values)
  expect('rows inserted', inserted.rowCount, 1)
  const simple = await client.query(`SELECT * FROM ${items} WHERE id = 1`)
  expect('simple query', { ...simple.rows[0] }, row)
  const extended = await client.query(`SELECT * FROM ${items} WHERE id = $1`, [1])
  expect('extended query', { ...extended.rows[0] }, row)
  const asArray = await client.query({ text: 'SELECT $1::int, $2::text', values: [7, 'x'], rowMode: 'array' })
  expect('rows as arrays', asArray.rows, [[7, 'x']])
  const large = randomBytes(3 << 20)
  expect('3 MiB there and back', large.equals(await scalar(client, 'SELECT $1::bytea', [large])), true)
  const several = await client.query('SELECT 1 AS one; SELECT 2 AS two')
  expect('several statements at once', several.map((result) => ({ ...result.rows[0] })), [{ one: 1 }, { two: 2 }])
}

async function transactions(client) {
  await client.query('BEGIN')
  await client.query(`INSERT INTO ${items} (id, words) VALUES ($1, $2)`, [2, 'committed'])
  await client.query('COMMIT')
  expect('after commit', await scalar(client, `SELECT words FROM ${items} WHERE id = $1`, [2]), 'committed')
  await client.query('BEGIN')
  await client.query(`UPDATE ${items} SET words = 'never' WHERE id = 2`)
  await client.query('SAVEPOINT here')
  await client.query(`DELETE FROM ${items}`)
  await client.query('ROLLBACK TO SAVEPOINT here')
  expect('after rollback to a savepoint', await scalar(client, `SELECT count(*) FROM ${items}`), '2')
  await client.query('ROLLBACK')
  expect('after rollback', await scalar(client, `SELECT words FROM ${items} WHERE id = 2`), 'committed')
}

async function prepared(client) {
  const plus = (n) => ({ name: 'plus', text: 'SELECT $1::int + 1', values: [n] })
  const twice = (s) => ({ name: 'twice', text: 'SELECT $1::text || $1', values: [s] })
  for (let n = 0; n < 40; n++) {
    expect('one statement many times', await scalar(client, plus(n)), n + 1)
  }
  for (let n = 0; n < 20; n++) {
    expect('first of two', await scalar(client, plus(n)), n + 1)
    expect('second of two', await scalar(client, twice(`s${n}`)), `s${n}s${n}`)
  }
  await client.query('BEGIN')
  expect('in a transaction', await scalar(client, plus(1)), 2)
  await client.query('COMMIT')
}

async function errors(client) {
  await expectError('unique violation', '23505', client.query(`INSERT INTO ${items} (id) VALUES ($1)`, [1]))
  await client.query('BEGIN')
  await expectError('error while rows stream', '22012', client.query('SELECT 1 / ($1 - n) FROM generate_series(1, 10000) n', [5000]))
  await expectError('in a failed transaction', '25P02', client.query('SELECT 1'))
  await client.query('ROLLBACK')
  await expectError('syntax error', '42601', client.query('SELEC 1'))
  await expectError('error in a named statement', '42P01', client.query({ name: 'bad', text: 'SELECT * FROM no_such_table_here', values: [] }))
  await expectError('error when executed', '22012', client.query({ name: 'divide', text: 'SELECT 1 / $1::int', values: [0] }))
  expect('the same statement again', await scalar(client, { name: 'divide', text: 'SELECT 1 / $1::int', values: [1] }), 1)
  expect('after the errors', await scalar(client, 'SELECT $1::text', ['well']), 'well')
}

async function copying(client) {
  const lines = Array.from({ length: 20000 }, (_, n) => `${n}\trow\\t${n}\n`)
  const sink = client.query(copy.from(`COPY ${copied} FROM STDIN`))
  await pipeline(Readable.from(lines), sink)
  expect('rows copied in', sink.rowCount, 20000)
  const chunks = []
  for await (const chunk of client.query(copy.to(`COPY (SELECT * FROM ${copied} ORDER BY id) TO STDOUT`))) {
    chunks.push(chunk)
  }
  expect('rows copied out', Buffer.concat(chunks).toString() === lines.join(''), true)
  const broken = pipeline(Readable.from(['not a number\tx\n']), client.query(copy.from(`COPY ${copied} FROM STDIN`)))
  await expectError('error in copy', '22P02', broken)
  expect('after the copies', await scalar(client, `SELECT count(*) FROM ${copied}`), '20000')
}

async function notices(client) {
  const heard = []
  const hear = (notice) => heard.push([notice.severity, notice.message])
  client.on('notice', hear)
  await client.query('DROP TABLE IF EXISTS no_such_table_here')
  client.off('notice', hear)
  expect('notice', heard, [['NOTICE', 'table "no_such_table_here" does not exist, skipping']])
}

async function codeBlock(client) {
  const heard = []
  const hear = (notice) => heard.push([notice.severity, notice.message])
  client.on('notice', hear)
  await client.query("DO $$ BEGIN RAISE NOTICE 'heard %', 1; RAISE WARNING 'heard 2'; END $$")
  client.off('notice', hear)
  expect('notices of a code block', heard, [['NOTICE', 'heard 1'], ['WARNING', 'heard 2']])
  expect('after the code block', await scalar(client, { name: 'plus', text: 'SELECT $1::int + 1', values: [1] }), 2)
}

// pipelined sends queries before the answers of those before them have come.
async function pipelined(url) {
  const client = new Client({ connectionString: url, pipeline: true })
  await client.connect()
  const query = (n) => (n % 2
    ? { name: 'plus', text: 'SELECT $1::int + 1', values: [n] }
    : { text: 'SELECT $1::int + 1', values: [n] })
  const numbers = Array.from({ length: 200 }, (_, n) => n)
  expect('pipeline', await Promise.all(numbers.map((n) => scalar(client, query(n)))), numbers.map((n) => n + 1))
  const answers = await Promise.allSettled(['SELECT 1', 'SELECT 1 / 0', 'SELECT 3'].map((text) => scalar(client, text)))
  expect('error in a pipeline', answers.map(({ value, reason }) => value ?? reason.code), [1, '22012', 3])
  await client.end()
}

// Cancelling is not in node-postgres's documentation, but its Client can do it.
async function cancel(client, url) {
  const sleep = new (require('pg').Query)('SELECT pg_sleep(60)')
  const ended = new Promise((resolve) => {
    sleep.on('error', (error) => resolve(error.code))
    sleep.on('end', () => resolve('slept'))
  })
  client.query(sleep)
  const again = setInterval(() => { // a cancel that comes before the query does nothing
    const other = new Client({ connectionString: url })
    other.connection.on('error', () => {})
    other.cancel(client, sleep)
  }, 50)
  expect('cancelled', await ended, '57014')
  clearInterval(again)
  await alive(() => scalar(client, "SELECT 'alive'"))
}

// twoConnections prepares other statements under the same name on each.
async function twoConnections(url) {
  const clients = [new Client({ connectionString: url }), new Client({ connectionString: url })]
  await Promise.all(clients.map((client) => client.connect()))
  const ask = (which, n) => scalar(clients[which], { name: 'mine', text: `SELECT $1::int + ${1000 * which}`, values: [n] })
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
  await Promise.all(clients.map((client) => client.end()))
}

async function pooled(url) {
  const pool = new Pool({ connectionString: url, max: 4 })
  const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => scalar(pool, 'SELECT $1::int * 2', [n])))
  expect('through a pool', answers, Array.from({ length: 100 }, (_, n) => n * 2))
  const wrong = new URL(url)
  wrong.pathname = '/no_such_database_here'
  await expectError('unknown database', '3D000', new Client({ connectionString: wrong.href }).connect())
  await pool.end()
}

async function drop(client) {
  await client.query('ROLLBACK')
  await client.query(`DROP TABLE IF EXISTS ${items}, ${copied}`)
  await client.end()
}

// asLibpq makes node-postgres read sslmode as libpq does: require encrypts and verifies nothing.
function asLibpq(url) {
  const read = new URL(url)
  if (read.searchParams.has('sslmode')) {
    read.searchParams.set('uselibpqcompat', 'true')
  }
  return read.href
}

async function run(url) {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    for (const part of [create, types, transactions, prepared, errors, copying, notices]) {
      await part(client)
    }
    await pipelined(url)
    await cancel(client, url)
    await twoConnections(url)
    await pooled(url)
    await codeBlock(client)
  } catch (error) {
    await drop(client).catch(() => {}) // what came first is what counts
    throw error
  }
  await drop(client)
}

main((url) => run(asLibpq(url)))
