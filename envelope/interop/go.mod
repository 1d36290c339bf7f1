module sealwright.dev/envelope/interop

go 1.26
