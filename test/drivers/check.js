// What the Node scripts share: they find the connection string in DATABASE_URL, compare what they get with what is
// right, and end with the line "ok N checks" and the exit status 0, or with the first difference and the status 1.
//
// The role may create tables in the first schema of its search_path. Names end in random letters, so that many scripts
// can run at once.
'use strict'

const assert = require('node:assert/strict')
const { randomBytes } = require('node:crypto')
const { inspect } = require('node:util')

let checks = 0

class Difference extends Error {}

const show = (value) => inspect(value, { depth: 5, maxStringLength: 200 })

function expect(what, got, want) {
  try {
    assert.deepStrictEqual(got, want)
  } catch {
    throw new Difference(`${what}: got ${show(got)}, want ${show(want)}`)
  }
  checks++
}

// sqlstate returns the SQLSTATE of an error, also where another library has wrapped it.
const sqlstate = (error) => error && (/^[0-9A-Z]{5}$/.test(error.code) ? error.code : sqlstate(error.cause))

// expectError expects that a promise is rejected with SQLSTATE code; it resolves to the error.
async function expectError(what, code, promise) {
  let error
  try {
    await promise
  } catch (caught) {
    error = caught
  }
  expect(what, error && (sqlstate(error) || error), code)
  return error
}

// unique returns a name that no other script uses.
const unique = (name) => `${name}_${randomBytes(6).toString('hex')}`

// alive expects that ask resolves to 'alive'. A cancel that came late may hit one statement more of the same session.
async function alive(ask) {
  let answer
  for (let n = 0; n < 5 && answer === undefined; n++) {
    answer = await ask().catch((error) => (sqlstate(error) === '57014' ? undefined : error))
  }
  expect('after the cancel', answer, 'alive')
}

// main runs run(url) and says how it ended.
function main(run) {
  const url = process.env.DATABASE_URL
  if (!url) {
    console.error(`usage: DATABASE_URL=postgres://... node ${process.argv[1]}`)
    process.exit(1)
  }
  run(url).then(
    () => console.log(`ok ${checks} checks`),
    (error) => {
      console.error(`${process.argv[1]}: after ${checks} checks: ${error instanceof Difference ? error.message : error.stack}`)
      process.exit(1) // connections that are left open would keep the script alive
    },
  )
}

module.exports = { Difference, alive, expect, expectError, main, sqlstate, unique }
