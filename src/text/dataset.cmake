# Data sets and the built-in corpus; part of narrow_text.
set(narrow_corpus ${PROJECT_SOURCE_DIR}/corpus)
set(narrow_corpus_source ${CMAKE_CURRENT_BINARY_DIR}/builtin_corpus.cc)
file(GLOB narrow_corpus_files CONFIGURE_DEPENDS
     ${narrow_corpus}/calibration/*.txt ${narrow_corpus}/evaluation/*.txt)
add_custom_command(
  OUTPUT ${narrow_corpus_source}
  COMMAND ${CMAKE_COMMAND} -DCORPUS=${narrow_corpus} -DOUTPUT=${narrow_corpus_source}
          -P ${CMAKE_CURRENT_SOURCE_DIR}/embed_corpus.cmake
  DEPENDS ${narrow_corpus_files} ${CMAKE_CURRENT_SOURCE_DIR}/embed_corpus.cmake
  COMMENT "Embedding the built-in corpus")
target_sources(narrow_text PRIVATE
  dataset.cc json_lines.cc named_datasets.cc zstd_stream.cc ${narrow_corpus_source})

narrow_test(dataset_test
  SOURCES builtin_corpus_test.cc dataset_test.cc json_lines_test.cc zstd_stream_test.cc
  LIBRARIES narrow_text PkgConfig::ZSTD)
