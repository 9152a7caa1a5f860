// The callback style of older functions.
exports.handler = (event, context, callback) => {
  setTimeout(() => callback(null, event.value), 5);
};
