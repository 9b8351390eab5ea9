'use strict';

// Makes a function of source text that came from the test process. `file` is where its `require` looks from.
const { createRequire } = require('node:module');

module.exports = function compile(source, file = __filename) {
  // A method says its name first, which makes it no expression.
  const method = /^(?:async\s+)?(serve)\s*\(/.exec(source);
  const expression = method ? `({ ${source} }).${method[1]}` : `(${source})`;
  return new Function('require', `'use strict'; return ${expression};`)(createRequire(file));
};
