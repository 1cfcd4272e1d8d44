narrow_fuzz(yaml_fuzz SOURCE yaml_fuzz.cc CORPUS corpus/yaml LIBRARIES narrow_io)
