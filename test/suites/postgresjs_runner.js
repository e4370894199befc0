// Runs the tests of postgres.js one after another, each whatever became of those before it, and prints a line of TAP for
// each. A test passes when it returns two values that are the same.

import { exec } from './bootstrap.js'

const patience = 5 // times as long as a test asks for: machines that run this may be slow
const tests = []
let started = false

export const t = (name, options, fn) => add(name, typeof options === 'function' ? {} : options, fn || options)
export const ot = t
export const nt = () => {}
t.timeout = 5

function add(name, options, fn) {
  const times = tests.filter(other => other.title === name).length
  tests.push({ title: name, name: times ? name + ' (' + (times + 1) + ')' : name, fn, seconds: patience * (options.timeout || t.timeout) })
  if (!started) {
    started = true
    setImmediate(run) // when all are there
  }
}

async function outcome({ fn, seconds }) {
  let timer
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('timed out')), 1000 * seconds) })
  try {
    const [expected, got] = await Promise.all(await Promise.race([late, fn()]))
    return expected === got ? null : String(expected) + ' is not ' + String(got)
  } catch (error) {
    return error && (error.stack || error.message) || String(error)
  } finally {
    clearTimeout(timer)
  }
}

// tidy removes the table that nearly all tests make, so that one that fails does not fail the next.
function tidy() {
  try {
    exec('psql', ['-d', 'postgres_js_test', '-c', 'set lock_timeout = 5000', '-c', 'drop table if exists test cascade'])
  } catch (error) {
    console.log('# not tidied: ' + error.message)
  }
}

async function run() {
  let number = 0
  for (const test of tests) {
    const problem = await outcome(test)
    console.log((problem === null ? 'ok ' : 'not ok ') + ++number + ' - ' + test.name.replaceAll('\n', ' '))
    if (problem !== null) {
      console.log('# ' + problem.replaceAll('\n', '\n# '))
      tidy()
    }
  }
  console.log('1..' + number)
  process.exit()
}

// What a test leaves behind must not end the others.
process.on('unhandledRejection', error => console.log('# unhandled: ' + error))
process.on('uncaughtException', error => console.log('# uncaught: ' + (error && error.stack || error)))
