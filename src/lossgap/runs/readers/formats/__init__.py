"""One file for each log format, each a `Reader` of `readers.base`; `readers.detect` names them."""
