// Package gpu runs the whole program on a machine with a real NVIDIA GPU. Elsewhere its test is skipped by name.
//
// A machine that has a GPU often has no Go. Then build here and carry two files there:
//
//	make build && CGO_ENABLED=0 go test -c -o bin/gpu.test ./test/gpu
//	OSTRO_TEST_BINARY=$PWD/bin/ostro bin/gpu.test -test.v
//
// It needs python3 there and the driver's libcuda, no CUDA toolkit and no PyTorch.
package gpu
