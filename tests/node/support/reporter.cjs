'use strict';
// Prints one line a test, everything about those that failed, and last the counted line. A file that ends without
// having run a test of its own, or that Node itself counts as failed, is a failure.

const path = require('node:path');
const { inspect } = require('node:util');

const files = (process.env.TEST_FILES ?? '').split('\n').filter(Boolean).map((file) => path.resolve(file));
const seconds = ({ duration_ms: milliseconds = 0 } = {}) => `${(milliseconds / 1000).toFixed(1)} s`;

// Node gives a file that crashed a test of its own, named for the file.
const isFile = ({ name }) => files.includes(path.resolve(name));

function why({ error } = {}) {
  const cause = error?.cause ?? error;
  return typeof cause === 'string' ? cause : cause?.stack ?? inspect(cause);
}

module.exports = async function* reporter(source) {
  const count = { passed: 0, failed: 0, skipped: 0 };
  const ran = new Set();
  const failures = [];
  for await (const { type, data } of source) {
    if (type === 'test:stdout' || type === 'test:stderr') yield data.message;
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    const name = `${path.basename(data.file ?? '', '.test.cjs')}: ${data.name}`;
    const parent = data.details?.type === 'suite' || data.details?.error?.failureType === 'subtestsFailed';
    if (type === 'test:fail') {
      // A suite fails with its tests, which are counted themselves.
      if (parent && !isFile(data)) continue;
      if (!isFile(data)) ran.add(data.file);
      count.failed++;
      failures.push(name);
      yield `FAIL ${name} (${seconds(data.details)})\n${why(data.details)}\n`;
    } else if (parent || isFile(data)) {
      continue;
    } else if (data.skip !== undefined) {
      count.skipped++;
      ran.add(data.file);
      yield `skip ${name}: ${data.skip}\n`;
    } else {
      count.passed++;
      ran.add(data.file);
      yield `ok   ${name} (${seconds(data.details)})\n`;
    }
  }
  for (const file of files.filter((one) => !ran.has(one))) {
    count.failed++;
    failures.push(`${path.basename(file)}: no test ran`);
  }
  if (failures.length > 0) yield `\n${failures.map((one) => `  failed: ${one}\n`).join('')}`;
  const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : '';
  yield `${count.passed} passed, ${count.failed} failed${skipped}\n`;
};
