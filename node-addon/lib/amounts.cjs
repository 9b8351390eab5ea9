'use strict';

// Amounts with a unit, as people write them: 400M, 24h.

const BYTES = { B: 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };
const MILLISECONDS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** How much a text says, in the first of `units`; NaN where it says nothing. `bare`: the unit of a number without one, if it may have none. */
function amountOf(text, units, bare) {
  const [, digits, written = ''] = /^([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)$/.exec(text) ?? [];
  const unit = written === '' ? bare : [written, written.toUpperCase(), written.toLowerCase()].find((one) => Object.hasOwn(units, one));
  return unit === undefined ? NaN : Number(digits) * units[unit];
}

module.exports = { BYTES, MILLISECONDS, amountOf };
