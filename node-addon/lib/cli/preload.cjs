'use strict';

// Loaded in each worker before the script, which must not notice.

const { isMainThread } = require('node:worker_threads');

/** For the primary: Node's options that load this file, or the one in its place where the script is now. */
exports.execArgvFor = (script) => {
  const file = require('../own-files.cjs').ownFile('lib/cli/preload.cjs', script);
  return file === undefined ? [] : ['--require', file];
};

const at = process.execArgv.indexOf(__filename);
if (at > 0 && isMainThread && process.connected) {
  process.execArgv.splice(at - 1, 2);
  const load = require('../../register.cjs').light ?? ((name) => require(`../${name}`));
  load('./cli/hold-signals.cjs').holdSignals();
  load('./cli/own-end.cjs').answerStops();
  load('./cli/let-end.cjs').letEnd();
}
