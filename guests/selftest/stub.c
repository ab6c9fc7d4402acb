void test_strings(void); void test_strings(void){}
void test_transfers(void); void test_transfers(void){}
void test_arithmetic(void); void test_arithmetic(void){}
void test_floating_point(void); void test_floating_point(void){}
void test_devices(void); void test_devices(void){}
