'use strict';

// A figure: a line to be read, and, where FAULTS_RESULTS names a file, one for the report.

const fs = require('node:fs');

const grouped = (number) => number.toLocaleString('en-US');

/** `met`: null where nothing is promised. Gives whether nothing promised is broken. */
function result(part, row, contender, measured, goal = '', met = null) {
  const verdict = met === null ? '' : met ? ', as promised' : `, but promised is ${goal}`;
  console.log(`${contender}: ${row}: ${measured}${verdict}`);
  const file = process.env.FAULTS_RESULTS;
  if (file) fs.appendFileSync(file, `${JSON.stringify({ part, row, contender, measured, goal, met })}\n`);
  return met !== false;
}

module.exports = { grouped, result };
