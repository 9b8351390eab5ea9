'use strict';

// Where Node's worker does less than it says; docs/node.md lists it.

// How a send to a dead primary fails. Node notices the death only later, by the end of the channel.
const GONE = new Set(['EPIPE', 'ECONNRESET', 'ERR_IPC_CHANNEL_CLOSED']);

/**
 * process.send that ignores a dead primary for node:cluster's own messages. Their failure would be an exception that ends a leaving
 * worker with its requests in hand. What the program sends fails as it does in Node.
 */
function sendOwn(send) {
  function told(error) {
    if (error && !GONE.has(error.code)) process.emit('error', error);
  }
  return function sendToPrimary(message, handle, ...rest) {
    const own = message?.cmd === 'NODE_CLUSTER' && rest.length === 0 && typeof handle !== 'function';
    return Reflect.apply(send, this, own ? [message, handle, undefined, told] : [message, handle, ...rest]);
  };
}

module.exports = { sendOwn };
