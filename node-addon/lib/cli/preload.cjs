'use strict';

// Loaded in each worker before the script, which must not notice.

const { isMainThread } = require('node:worker_threads');

/** For the primary: Node's options that load this file. */
exports.execArgv = ['--require', __filename];

const at = process.execArgv.indexOf(__filename);
if (at > 0 && isMainThread && process.connected) {
  process.execArgv.splice(at - 1, 2);
  require('./hold-signals.cjs').holdSignals();
  require('./own-end.cjs').answerStops();
  require('./let-end.cjs').letEnd();
}
