const express = require("express");

const app = express();
app.post("/", (request, response) => response.json("hello"));
app.listen(Number(process.argv[2]), "127.0.0.1");
