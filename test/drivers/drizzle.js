#!/usr/bin/env node
// Migrates a schema with drizzle's migrator and runs what an application does with it, with the defaults of drizzle and
// of the driver below it, "node-postgres" or "postgres-js". See check.js.
//
//     DATABASE_URL=... node drizzle.js DRIVER
//
// The role must be allowed to create schemas: each run has its own, in the search_path that it sets for its role's
// connections as a start-up option.
'use strict'

const { readFileSync } = require('node:fs')
const { randomUUID } = require('node:crypto')
const path = require('node:path')
const { and, count, desc, eq, like, relations, sql } = require('drizzle-orm')
const pg = require('drizzle-orm/pg-core')
const { Difference, alive, expect, expectError, main, unique } = require('./check')

const schemaName = unique('drizzle')
const driverName = process.argv[2]

const mood = pg.pgEnum('mood', ['happy', 'sad'])
const authors = pg.pgTable('authors', {
  id: pg.serial('id').primaryKey(),
  name: pg.text('name').notNull().unique(),
  born: pg.date('born').notNull().default('2000-01-01'),
})
const books = pg.pgTable('books', {
  id: pg.serial('id').primaryKey(),
  authorId: pg.integer('author_id').notNull().references(() => authors.id),
  big: pg.bigint('big', { mode: 'bigint' }),
  words: pg.text('words'),
  at: pg.timestamp('at', { withTimezone: true }),
  doc: pg.jsonb('doc'),
  numbers: pg.integer('numbers').array(),
  price: pg.numeric('price'),
  yes: pg.boolean('yes'),
  uid: pg.uuid('uid'),
  mood: mood('mood'),
  nothing: pg.text('nothing'),
})
const schema = {
  authors,
  books,
  authorsRelations: relations(authors, ({ many }) => ({ books: many(books) })),
  booksRelations: relations(books, ({ one }) => ({ author: one(authors, { fields: [books.authorId], references: [authors.id] }) })),
}

// drivers are what drizzle can stand on: connect returns {db, migrate, end}.
const drivers = {
  'node-postgres': (url) => {
    const { drizzle } = require('drizzle-orm/node-postgres')
    if (url.searchParams.has('sslmode')) {
      url.searchParams.set('uselibpqcompat', 'true') // require encrypts and verifies nothing
    }
    url.searchParams.set('options', `-c search_path=${schemaName}`)
    const pool = new (require('pg').Pool)({ connectionString: url.href, max: 3 })
    return { db: drizzle(pool, { schema }), migrate: require('drizzle-orm/node-postgres/migrator').migrate, end: () => pool.end() }
  },
  'postgres-js': (url) => {
    const { drizzle } = require('drizzle-orm/postgres-js')
    const options = { max: 3, onnotice: () => {}, connection: { search_path: schemaName } }
    if (url.searchParams.has('sslrootcert')) {
      options.ssl = { ca: readFileSync(url.searchParams.get('sslrootcert')), rejectUnauthorized: true }
      url.searchParams.delete('sslrootcert')
      url.searchParams.delete('sslmode')
    }
    const client = require('postgres')(url.href, options)
    return { db: drizzle(client, { schema }), migrate: require('drizzle-orm/postgres-js/migrator').migrate, end: () => client.end() }
  },
}

async function migrations({ db, migrate }) {
  const config = { migrationsFolder: path.join(__dirname, 'drizzle_migrations'), migrationsSchema: schemaName }
  await migrate(db, config)
  await migrate(db, config) // again: there is nothing to do
  const [{ done }] = await db.select({ done: count() }).from(sql.raw(`${schemaName}.__drizzle_migrations`))
  expect('migrations', Number(done), 2)
}

async function types({ db }) {
  const row = {
    big: 2n ** 62n,
    words: "naïve ☃ 'quoted' \\",
    at: new Date('2024-02-29T12:30:15.123Z'),
    doc: { a: [1, null, 'é'] },
    numbers: [1, -2, 3],
    price: '12345678901234567890.123456789',
    yes: true,
    uid: randomUUID(),
    mood: 'happy',
    nothing: null,
  }
  const [author] = await db.insert(authors).values({ name: 'first' }).returning()
  expect('returned', author, { id: author.id, name: 'first', born: '2000-01-01' })
  const [book] = await db.insert(books).values({ ...row, authorId: author.id }).returning()
  const [got] = await db.select().from(books).where(eq(books.id, book.id))
  expect('the row', got, { ...row, id: book.id, authorId: author.id })
  const found = await db.query.authors.findFirst({ where: eq(authors.name, 'first'), with: { books: { columns: { words: true, price: true } } } })
  expect('relation', found.books.map(({ words }) => words), [row.words])
  await db.insert(authors).values(Array.from({ length: 500 }, (_, n) => ({ name: `many ${n}` })))
  expect('many at once', await db.$count(authors, like(authors.name, 'many %')), 500)
  const [last] = await db.select({ name: authors.name }).from(authors).where(like(authors.name, 'many %')).orderBy(desc(authors.id)).limit(1)
  expect('last', last.name, 'many 499')
  const large = 'large ☃ '.repeat(300000)
  await db.update(books).set({ words: large }).where(and(eq(books.id, book.id), eq(books.yes, true)))
  const [{ words }] = await db.select({ words: books.words }).from(books).where(eq(books.id, book.id))
  expect('large text there and back', words === large, true)
}

async function transactions({ db }) {
  await db.transaction(async (tx) => {
    await tx.insert(authors).values({ name: 'committed' })
    const failed = tx.transaction((inner) => inner.insert(authors).values({ name: 'committed' })) // a savepoint
    await expectError('error behind a savepoint', '23505', failed)
    await tx.insert(authors).values({ name: 'committed, too' })
  })
  const rolledBack = db.transaction(async (tx) => {
    await tx.insert(authors).values({ name: 'never' })
    tx.rollback()
  }, { isolationLevel: 'serializable' })
  await rolledBack.then(() => { throw new Difference('rollback: no error') }, () => {})
  const failed = db.transaction(async (tx) => {
    await tx.insert(authors).values({ name: 'never, too' })
    await expectError('error in a transaction', '22012', tx.execute(sql`SELECT 1 / ${0}::int`))
    await tx.execute(sql`SELECT 1`)
  })
  await failed.then(() => { throw new Difference('failed transaction: no error') }, () => {})
  expect('after them', await db.$count(authors, like(authors.name, 'never%')), 0)
  expect('and what was committed', await db.$count(authors, like(authors.name, 'committed%')), 2)
}

async function errors({ db }) {
  await expectError('unique violation', '23505', db.insert(authors).values({ name: 'first' }))
  await expectError('syntax error', '42601', db.execute(sql`SELEC ${1}`))
  await expectError('no such table', '42P01', db.execute(sql`SELECT * FROM no_such_table_here`))
  await alive(async () => (await db.select({ word: sql`'alive'` }).from(authors).limit(1))[0].word)
}

async function prepared({ db }) {
  const byName = db.select({ name: authors.name }).from(authors).where(eq(authors.name, sql.placeholder('name'))).prepare('by_name')
  for (let n = 0; n < 60; n++) {
    expect('prepared', await byName.execute({ name: `many ${n}` }), [{ name: `many ${n}` }])
  }
  const numbers = Array.from({ length: 200 }, (_, n) => n)
  const answers = await Promise.all(numbers.map((n) => byName.execute({ name: `many ${n}` })))
  expect('prepared, through the pool', answers.map(([{ name }]) => name), numbers.map((n) => `many ${n}`))
  const mixed = await Promise.all(numbers.map((n) => db.transaction(async (tx) => {
    await tx.update(authors).set({ born: '1999-12-31' }).where(eq(authors.name, `many ${n}`))
    const [{ born }] = await tx.select({ born: authors.born }).from(authors).where(eq(authors.name, `many ${n}`))
    return born
  })))
  expect('transactions at once', new Set(mixed), new Set(['1999-12-31']))
}

async function run(url) {
  const client = drivers[driverName](new URL(url))
  try {
    await client.db.execute(sql.raw(`CREATE SCHEMA ${schemaName}`))
    for (const part of [migrations, types, transactions, errors, prepared]) {
      await part(client)
    }
  } finally {
    await client.db.execute(sql.raw(`DROP SCHEMA IF EXISTS ${schemaName} CASCADE`)).catch(() => {}) // what came first is what counts
  }
  await client.end()
}

main(run)
