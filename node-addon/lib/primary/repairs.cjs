'use strict';

// Where Node's primary does less than it says; docs/node.md lists it.

/** Worker.prototype.send to a worker that is gone is a return value, not an exception in the primary. */
function sendSafely(send) {
  return function sendToWorker(message, ...rest) {
    const callback = rest.find((argument) => typeof argument === 'function');
    const told = (error) => {
      if (callback) callback(error);
      else if (error && this.listenerCount('error') > 0) this.emit('error', error);
    };
    if (message !== undefined && !this.process.connected) {
      const error = Object.assign(new Error('Channel closed'), { code: 'ERR_IPC_CHANNEL_CLOSED' });
      process.nextTick(told, error);
      return false;
    }
    if (callback) return Reflect.apply(send, this, [message, ...rest]);
    return Reflect.apply(send, this, [message, rest[0], rest[1], told]);
  };
}

/** cluster.disconnect that calls back when every worker has disconnected and ended, not when the first one has. */
function disconnectAll(cluster, living) {
  return function disconnect(callback) {
    const workers = living();
    let left = workers.length;
    const gone = () => {
      left -= 1;
      if (left === 0 && typeof callback === 'function') callback();
    };
    if (left === 0) {
      left = 1;
      process.nextTick(gone);
      return;
    }
    for (const worker of workers) {
      let events = 0;
      const half = () => {
        events += 1;
        if (events === 2) gone();
      };
      // Behind Node's own listeners, so that the program has been told of each before it is called back.
      if (worker.isConnected()) worker.process.once('disconnect', half);
      else half();
      if (worker.isDead()) half();
      else worker.process.once('exit', half);
    }
    for (const worker of Object.values(cluster.workers)) {
      if (worker.isConnected()) worker.disconnect();
    }
  };
}

module.exports = { disconnectAll, sendSafely };
