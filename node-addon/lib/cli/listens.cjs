'use strict';

// In the worker. Listening takes an answer from the primary, and there is none for a worker that was asked to end. Under plain node a
// server listens when a signal comes, so a script may close it then; one that does not listen yet would make that an error. So signals
// wait for the answer, and in a script that ends itself such servers get a handle on which nothing comes.

const cluster = require('node:cluster');
const { isDatagram } = require('../query.cjs');
const { standIn } = require('../worker/stand-in.cjs');

/** The longest that a signal waits, in milliseconds. */
const PATIENCE = 1000;

// By question: what answers it.
const open = new Set();
const waiting = [];
let isEnding = false;

function release() {
  for (const action of waiting.splice(0)) action();
}

function nameOf({ address, port, addressType }) {
  if (!(port >= 0)) return undefined;
  const isSix = addressType === 6;
  return { address: address ?? (isSix ? '::' : '0.0.0.0'), family: isSix ? 'IPv6' : 'IPv4', port };
}

function watchListens() {
  const { _getServer } = cluster;
  cluster._getServer = function getAnswered(server, query, callback) {
    if (isDatagram(query)) return Reflect.apply(_getServer, this, [server, query, callback]);
    const answered = (errno, handle, ...rest) => {
      if (!open.delete(giveNothing)) {
        handle?.close();
        return;
      }
      callback(errno, handle, ...rest);
      // The server tells of it in the next tick.
      if (open.size === 0) setImmediate(release);
    };
    const giveNothing = () => answered(0, standIn(nameOf(query)));
    open.add(giveNothing);
    if (!isEnding) return Reflect.apply(_getServer, this, [server, query, answered]);
    return process.nextTick(giveNothing);
  };
}

/** Calls `action` when no server waits for the primary's answer. Returns whether that takes time. */
function afterListens(action) {
  if (open.size === 0 || !process.connected) return false;
  waiting.push(action);
  setTimeout(release, PATIENCE).unref();
  return true;
}

/** The script ends itself: no server waits for the primary any more. */
function endListens() {
  isEnding = true;
  for (const giveNothing of [...open]) giveNothing();
}

module.exports = { afterListens, endListens, watchListens };
