# make         builds the program: build/narrow
# make narrow-mpi  the program for several machines beside it: build/narrow-mpi (installs OpenMPI where it is missing)
# make demo    installs what is missing, builds, fetches a real model and quantizes it (MODEL=gemma3: another one)
# make test    installs what is missing, builds, runs every test
# make bench   throughput against the peak of this machine
# make bench-671b  three full-size layers of DeepSeek-V3 under 6 GiB of memory (50 GB of disk)
# make bench-405b  two full-size layers of Llama 3.1 405B under 12 GiB of memory (45 GB of disk)
# make deb     a Debian package in build/packages/           make wheel  a Python wheel there
# make check-packages  installs both in clean places and runs the demo job with them
# make lint    format, layers, clang-tidy          make lint-fast  the first two
# make asan    the fast tests under AddressSanitizer and UBSan (build-asan/)
# make fuzz    every parser under libFuzzer for FUZZ_SECONDS each, or FUZZ_RUNS=2000000 executions (build-fuzz/)
BUILD ?= build
FUZZ_SECONDS ?= 60
MODEL ?= smollm2

.NOTPARALLEL:
.PHONY: program narrow-mpi setup everything demo test bench bench-405b bench-671b deb wheel package check-packages lint lint-fast asan fuzz clean

program: $(BUILD)/build.ninja
	cmake --build $(BUILD) --target narrow

setup:
	@tools/setup.sh

narrow-mpi: setup
	@tools/setup.sh mpi
	cmake -S . -B $(BUILD) -G Ninja >/dev/null
	cmake --build $(BUILD) --target narrow-mpi

$(BUILD)/build.ninja:
	cmake -S . -B $(BUILD) -G Ninja

everything: $(BUILD)/build.ninja
	cmake --build $(BUILD)

demo: setup program
	model=$$(tools/prepare_demo_model.sh $(BUILD) $(MODEL) | tail -n 1) && \
	$(BUILD)/narrow quantize --model_dir "$$model" \
	  --output_dir "$(BUILD)/$$(basename "$$model")-FP8-KV" \
	  --quant_scheme w_fp8_a_fp8 --kv_cache_dtype fp8 --num_calib_data 128 \
	  --model_export quark_safetensors --no_weight_matrix_merge --custom_mode fp8 \
	  --eval_windows 4 --overwrite

test: setup everything
	tools/run_tests.sh $(BUILD)

bench: setup everything
	tools/bench.sh $(BUILD)

bench-405b: setup program
	tools/bench_405b.sh $(BUILD)

bench-671b: setup program
	tools/bench_671b.sh $(BUILD)

package: setup $(BUILD)/build.ninja
	@tools/setup.sh package
	cmake --build $(BUILD) --target narrow package_files

deb: package
	tools/make_deb.sh $(BUILD)

wheel: package
	tools/make_wheel.sh $(BUILD)

check-packages: deb wheel
	tools/check_packages.sh $(BUILD)

lint:
	@tools/setup.sh lint
	cmake -S . -B $(BUILD) -G Ninja >/dev/null
	tools/lint.sh $(BUILD)

lint-fast:
	@tools/setup.sh lint
	@mkdir -p $(BUILD)
	tools/lint.sh $(BUILD) fast

asan: setup
	cmake --preset asan
	cmake --build --preset asan
	tools/run_tests.sh build-asan -L fast

fuzz:
	@tools/setup.sh fuzz
	cmake --preset fuzz
	cmake --build --preset fuzz
	tools/fuzz.sh build-fuzz $(if $(FUZZ_RUNS),-runs=$(FUZZ_RUNS),$(FUZZ_SECONDS))

clean:
	rm -rf $(BUILD) build-asan build-dev build-fuzz
